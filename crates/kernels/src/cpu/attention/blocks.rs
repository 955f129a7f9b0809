//! Blocks of queries, the keys they may see, and a block's scores.

use crate::cpu::matmul::{Target, View, multiply};
use crate::cpu::simd::{exp, fma, max_lanes, simd, sum1, tanh};
use crate::options::{Extents, Segments, Span};
use std::ops::Range;

/// Rows of one block: query heads of a group times tokens.
pub(super) const QUERY_ROWS: usize = 128;
/// Keys of one block.
pub(super) const KEYS: usize = 128;

/// Tokens of one query block when `group` query heads share a key head.
pub(super) fn query_tokens(group: usize) -> usize {
    (QUERY_ROWS / group).max(1)
}

/// Keys whose scores are computed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyBlock {
    pub(super) keys: Range<usize>,
    /// True if a query in the block may not attend to some key in it.
    pub(super) masked: bool,
}

/// The key blocks of the queries `tokens` of `span`: its prefix, then its own tokens.
pub(super) fn key_blocks(
    span: &Span,
    tokens: &Range<usize>,
    positions: &[u32],
    window: Option<usize>,
) -> Vec<KeyBlock> {
    let mut blocks = vec![];
    let mut push = |range: Range<usize>| {
        let mut start = range.start;
        while start < range.end {
            let end = (start + KEYS).min(range.end);
            let keys = start..end;
            start = end;
            let causal = keys.end > tokens.start + 1 && keys.start >= span.start;
            let Some(window) = window else {
                blocks.push(KeyBlock { keys, masked: causal });
                continue;
            };
            // Positions rise within the span, so its ends bound the distances.
            let distance = |query: usize, key: usize| i64::from(positions[query]) - i64::from(positions[key]);
            let nearest = keys.clone().map(|key| distance(tokens.start, key)).min();
            let farthest = keys.clone().map(|key| distance(tokens.end - 1, key)).max();
            let window = window as i64;
            if nearest.is_some_and(|distance| distance < window) {
                let cut = farthest.is_some_and(|distance| distance >= window);
                blocks.push(KeyBlock { keys, masked: causal || cut });
            }
        }
    };
    push(span.prefix.clone().unwrap_or(0..0));
    push(span.start..tokens.end);
    blocks
}

/// Copies one group's rows of `tokens` side by side, (tokens · group, D), times `scale`.
pub(super) fn gather_group(
    extents: Extents,
    values: &[f32],
    tokens: &Range<usize>,
    kv_head: usize,
    scale: f32,
    out: &mut [f32],
) {
    let row = extents.heads * extents.width;
    let len = extents.group() * extents.width;
    for (token, out) in tokens.clone().zip(out.chunks_exact_mut(len.max(1))) {
        let from = &values[token * row + kv_head * len..][..len];
        if scale == 1.0 {
            out.copy_from_slice(from);
        } else {
            for (out, value) in out.iter_mut().zip(from) {
                *out = value * scale;
            }
        }
    }
}

/// One key head's rows of `keys`.
pub(super) fn head_rows<'a>(extents: Extents, values: &'a [f32], keys: &Range<usize>, kv_head: usize) -> View<'a> {
    let row = extents.kv_heads * extents.width;
    let start = keys.start * row + kv_head * extents.width;
    View::strided(&values[start..], keys.len(), extents.width, row)
}

/// One block of queries of one key head: `rows` rows of D, scaled, and the keys that they may attend to.
#[derive(Clone, Copy)]
pub(super) struct QueryBlock<'a> {
    pub(super) queries: View<'a>,
    pub(super) rows: usize,
    pub(super) soft_cap: Option<f32>,
    pub(super) mask: Mask<'a>,
}

impl QueryBlock<'_> {
    /// Capped and masked scores against the `keys` of `block`, (rows, keys), into the start of `scores`.
    pub(super) fn scores(&self, keys: View<'_>, block: &KeyBlock, scores: &mut [f32]) {
        let columns = block.keys.len();
        let scores = &mut scores[..self.rows * columns];
        multiply(Target::new(scores, self.rows, columns), self.queries, keys.t(), 1.0, 1);
        if let Some(cap) = self.soft_cap {
            soft_cap(scores, cap);
        }
        if block.masked {
            self.mask.apply(block, scores);
        }
    }
}

/// Causality, prefix and window of a block of queries.
#[derive(Clone, Copy)]
pub(super) struct Mask<'a> {
    pub(super) span: &'a Span,
    pub(super) segments: &'a Segments,
    pub(super) window: Option<usize>,
    /// First token of the query block.
    pub(super) first: usize,
    pub(super) group: usize,
}

impl Mask<'_> {
    fn apply(&self, block: &KeyBlock, scores: &mut [f32]) {
        let positions = self.segments.positions();
        let columns = block.keys.len();
        let own = block.keys.start >= self.span.start;
        for (index, rows) in scores.chunks_exact_mut(columns * self.group).enumerate() {
            let query = self.first + index;
            // Causal: keys of the own span up to the query.
            let visible = if own { (query + 1).saturating_sub(block.keys.start).min(columns) } else { columns };
            for row in rows.chunks_exact_mut(columns) {
                row[visible..].fill(f32::NEG_INFINITY);
                if let Some(window) = self.window {
                    for (score, key) in row[..visible].iter_mut().zip(block.keys.clone()) {
                        let distance = i64::from(positions[query]) - i64::from(positions[key]);
                        if distance >= window as i64 {
                            *score = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }
}

simd! {
    fn soft_cap(scores: &mut [f32], cap: f32) {
        let inverse = 1.0 / cap;
        for score in scores {
            *score = cap * tanh::<FMA>(*score * inverse);
        }
    }

    /// Takes a block's scores into the running softmax of its rows: `scores` become e^(s − max),
    /// `maxima` and `sums` move on, and `out` (rows, D) is scaled to the new maximum.
    pub(super) fn fold_block(
        scores: &mut [f32],
        columns: usize,
        maxima: &mut [f32],
        sums: &mut [f32],
        out: &mut [f32],
        width: usize,
    ) {
        for (row, scores) in scores.chunks_exact_mut(columns).enumerate() {
            let old = maxima[row];
            let block = max_lanes(scores);
            let new = if block > old { block } else { old };
            if new == f32::NEG_INFINITY {
                // No visible key yet: the window hides this whole block from the row.
                scores.fill(0.0);
                continue;
            }
            for score in scores.iter_mut() {
                *score = exp::<FMA>(*score - new);
            }
            let sum = sum1(scores, |sum, weight| sum + weight);
            if new > old {
                let shrink = exp::<FMA>(old - new);
                sums[row] *= shrink;
                for value in &mut out[row * width..(row + 1) * width] {
                    *value *= shrink;
                }
            }
            sums[row] += sum;
            maxima[row] = new;
        }
    }

    /// `scores` become softmax weights e^(s − log-sum) of their rows.
    pub(super) fn weights_from_log_sums(scores: &mut [f32], columns: usize, log_sums: &[f32]) {
        for (scores, &log_sum) in scores.chunks_exact_mut(columns).zip(log_sums) {
            for score in scores {
                *score = exp::<FMA>(*score - log_sum);
            }
        }
    }

    /// Backward through the softmax: `grads`, ∂L/∂weights, become ∂L/∂scores = w·(grad − inner).
    pub(super) fn score_gradient(
        weights: &[f32],
        columns: usize,
        inner: &[f32],
        grads: &mut [f32],
    ) {
        let rows = weights.chunks_exact(columns).zip(grads.chunks_exact_mut(columns));
        for ((weights, grads), &inner) in rows.zip(inner) {
            for (grad, &weight) in grads.iter_mut().zip(weights) {
                *grad = weight * (*grad - inner);
            }
        }
    }

    /// As [`score_gradient`], and backward through the cap: times 1 − (s/cap)², s the capped score.
    pub(super) fn capped_score_gradient(
        weights: &[f32],
        columns: usize,
        inner: &[f32],
        scores: &[f32],
        cap: f32,
        grads: &mut [f32],
    ) {
        let inverse = 1.0 / cap;
        for (row, &inner) in inner.iter().enumerate() {
            for i in row * columns..(row + 1) * columns {
                // A masked score is −∞ and its weight 0.
                let t = if weights[i] == 0.0 { 0.0 } else { scores[i] * inverse };
                grads[i] = weights[i] * (grads[i] - inner) * fma::<FMA>(-t, t, 1.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_skips_blocks_it_hides() {
        let segments = Segments::causal(4 * KEYS).unwrap();
        let span = &segments.spans()[0];
        let tokens = 3 * KEYS..3 * KEYS + 8;
        let blocks = key_blocks(span, &tokens, segments.positions(), None);
        assert_eq!(blocks.len(), 4);
        assert_eq!(blocks.iter().filter(|block| block.masked).count(), 1);
        let blocks = key_blocks(span, &tokens, segments.positions(), Some(4));
        assert_eq!(blocks.len(), 2);
        assert!(blocks.iter().all(|block| block.masked));
    }
}
