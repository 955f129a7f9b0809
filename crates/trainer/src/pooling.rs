//! Rows for a head of labels, which reads a sequence at its last token that is no padding, as transformers' classes do.

use smpo_data::{Row, TokenizedCompletion};
use smpo_model::{Decoder, DecoderSpec, PackedBatch};
use smpo_tokenizer::ChatTokenizer;

use crate::config::TrainConfig;
use crate::error::TrainError;

/// Sequences that a head of labels reads.
#[derive(Debug, Clone, Default)]
pub struct Pooling {
    /// Tokens that the chat template writes after the end of the last turn. A completion that was cut has none.
    pub tail: Vec<u32>,
    /// Padding of the model, which is not read.
    pub pad: Option<u32>,
}

impl Pooling {
    /// That of a run: rows of one text are whole, and have the tail already.
    pub(crate) fn of(config: &TrainConfig, decoder: &Decoder, tokenizer: &ChatTokenizer) -> Result<Self, TrainError> {
        match config.loss.loss.pooled().is_some_and(|loss| loss.compares_sides()) {
            true => Self::new(decoder, tokenizer),
            false => Ok(Self { tail: Vec::new(), pad: decoder.config().pad_token() }),
        }
    }

    /// That of a model, for conversations under a template.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn new(decoder: &Decoder, tokenizer: &ChatTokenizer) -> Result<Self, TrainError> {
        Ok(Self { tail: tokenizer.encode_tail()?, pad: decoder.config().pad_token() })
    }

    /// Tokens of a row in a pack, at most.
    pub(crate) fn packed_tokens(&self, row: &Row) -> usize {
        row.packed_tokens() + row.completions().count() * (1 + self.tail.len())
    }

    /// Lays rows side by side for a model, each prompt once.
    pub(crate) fn pack(&self, rows: &[&Row], spec: &DecoderSpec) -> Result<PackedBatch, TrainError> {
        let mut builder = PackedBatch::builder().turning_at(spec.turns_at());
        for row in rows {
            let whole: Vec<Vec<u32>> = row.completions().map(|side| self.sequence(side)).collect();
            let whole: Vec<&[u32]> = whole.iter().map(Vec::as_slice).collect();
            builder.push_pooled(&row.prompt, &whole, self.pad)?;
        }
        Ok(builder.build()?)
    }

    fn sequence(&self, completion: &TokenizedCompletion) -> Vec<u32> {
        let tail = if completion.finished() { &self.tail[..] } else { &[] };
        [completion.ids(), tail].concat()
    }
}

/// The padding token of a model with a head of labels, as TRL chooses it: the tokenizer's, else the model's own, else the
/// token that ends a turn, which is then not read.
pub(crate) fn pad_token(decoder: &Decoder, tokenizer: &ChatTokenizer) -> Option<u32> {
    let own = decoder.config().pad_token();
    tokenizer.pad().or(own).or_else(|| tokenizer.terminator_ids().first().copied())
}
