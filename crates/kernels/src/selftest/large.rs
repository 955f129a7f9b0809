//! Operations at the sizes of real runs: vocabularies, numbers of rows and lengths beyond the first blocks of a grid.

use super::cases::Cases;
use crate::error::Result;
use crate::{
    AttentionOptions, HeadOptions, NormOptions, RotaryPairs, Segments, Span, add_rms_norm, attention, embedding,
    rms_norm, rotary, selected_log_probs, swiglu,
};

/// Sizes of the large cases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// V.
    pub(super) vocabulary: usize,
    /// Rows of element-wise operations, and of the head.
    rows: [usize; 2],
    /// Tokens of attention.
    pub(super) tokens: usize,
}

impl Sizes {
    /// A vocabulary of Qwen's, more rows than a grid has along y, more tokens than any default allows.
    pub(super) const REAL: Self = Self { vocabulary: 151_936, rows: [70_000, 600], tokens: 8_200 };
    /// The same cases in little time.
    pub(super) const REDUCED: Self = Self { vocabulary: 1_519, rows: [700, 40], tokens: 200 };
}

/// Padded and unpadded widths of heads.
pub(super) const WIDTHS: [usize; 5] = [64, 80, 96, 128, 256];
const WIDTH: usize = 64;

pub(super) fn push(cases: &mut Cases, sizes: Sizes) -> Result<()> {
    rows(cases, sizes)?;
    head(cases, sizes)?;
    WIDTHS.into_iter().try_for_each(|width| attention_of(cases, sizes.tokens, width))
}

fn rows(cases: &mut Cases, sizes: Sizes) -> Result<()> {
    let [count, _] = sizes.rows;
    let (x, gain, half) = ([count, WIDTH], [WIDTH], [count, WIDTH / 4]);
    let options = NormOptions { eps: 1e-6, unit_offset: false };
    cases.push("rms_norm", &[&x, &gain], [&[], &[1]], &[&x], "large", move |x| {
        Ok(vec![rms_norm(&x[0], &x[1], options)?])
    })?;
    cases.push("add_rms_norm", &[&x, &x, &gain], [&[], &[2]], &[&x, &x], "large", move |x| {
        let both = add_rms_norm(&x[0], &x[1], &x[2], options)?;
        Ok(vec![both.sum, both.normed])
    })?;
    cases.push("swiglu", &[&x, &x], [&[], &[]], &[&x], "large", |x| Ok(vec![swiglu(&x[0], &x[1])?]))?;
    let heads = [count, 2, WIDTH / 2];
    cases.push("rotary", &[&heads, &half, &half], [&[1, 2], &[]], &[&heads], "large", |x| {
        Ok(vec![rotary(&x[0], &x[1], &x[2], RotaryPairs::Halves)?])
    })?;
    let ids = cases.ids(count, 300);
    cases.push("embedding", &[&[300, WIDTH]], [&[], &[0]], &[&x], "large", move |x| Ok(vec![embedding(&x[0], &ids)?]))
}

/// The head with a weight that is trained, and with one that is not.
fn head(cases: &mut Cases, sizes: Sizes) -> Result<()> {
    let ([_, rows], vocabulary) = (sizes.rows, sizes.vocabulary);
    // Two tiles of rows, several of the vocabulary.
    let options = HeadOptions { soft_cap: None, chunk: rows.div_ceil(8) };
    let shapes: [&[usize]; 2] = [&[rows, WIDTH], &[vocabulary, WIDTH]];
    for frozen in [false, true] {
        let targets = cases.ids(rows, vocabulary as u32);
        let (constants, text): (&[usize], _) = if frozen { (&[1], "large, frozen") } else { (&[], "large") };
        cases.push("head", &shapes, [constants, &[]], &[&[rows]], text, move |x| {
            let weight = if frozen { x[1].to_dtype(x[0].dtype())? } else { x[1].clone() };
            Ok(vec![selected_log_probs(&x[0], &weight, &targets, options)?])
        })?;
    }
    Ok(())
}

/// A prompt of half of the tokens and two completions.
fn attention_of(cases: &mut Cases, tokens: usize, width: usize) -> Result<()> {
    let (prompt, second) = (tokens / 2, tokens - tokens / 4);
    let spans = vec![
        Span::new(0..prompt),
        Span::with_prefix(prompt..second, 0..prompt),
        Span::with_prefix(second..tokens, 0..prompt),
    ];
    let segments = Segments::new(spans)?;
    let options = AttentionOptions::for_width(width);
    let (q, k) = ([tokens, 2, width], [tokens, 1, width]);
    cases.push("attention", &[&q, &k, &k], [&[], &[]], &[&q], "large", move |x| {
        Ok(vec![attention(&x[0], &x[1], &x[2], &segments, options)?])
    })
}
