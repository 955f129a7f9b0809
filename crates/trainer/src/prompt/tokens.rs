//! Tokens that a prompt may be made of.

use candle_core::{Device, Tensor};
use smpo_tokenizer::ChatTokenizer;

use crate::error::TrainError;

/// True for each token of a vocabulary that a prompt may not hold: special tokens, those that a text cannot hold, and those
/// given.
pub(super) fn forbidden(tokenizer: &ChatTokenizer, vocabulary: usize, given: &[u32]) -> Result<Vec<bool>, TrainError> {
    let mut forbidden = Vec::with_capacity(vocabulary);
    for id in (0u32..).take(vocabulary) {
        let text = match tokenizer.tokenizer().id_to_token(id) {
            Some(_) => tokenizer.decode(&[id])?,
            None => String::new(),
        };
        // part of a character decodes to U+FFFD
        let unfit = text.is_empty() || text.contains('\u{fffd}') || tokenizer.special_token_in(&text).is_some();
        forbidden.push(unfit || tokenizer.is_terminator(id) || given.contains(&id));
    }
    Ok(forbidden)
}

/// Summand of the logits of each token: −∞ for those that are forbidden.
pub(super) fn mask(forbidden: &[bool]) -> Result<Tensor, TrainError> {
    let mask: Vec<f32> = forbidden.iter().map(|forbidden| if *forbidden { f32::NEG_INFINITY } else { 0.0 }).collect();
    Ok(Tensor::from_vec(mask, forbidden.len(), &Device::Cpu)?)
}
