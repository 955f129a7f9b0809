//! Weighted values, block by block.

use super::blocks::{KEYS, Mask, block_scores, fold_block, gather_group, head_rows, key_blocks, query_tokens};
use super::{AttentionOptions, Extents};
use crate::matmul::{Target, View, multiply};
use crate::parallel::{Shared, tasks};
use crate::segments::Segments;
use std::ops::Range;

pub(super) struct Output {
    /// (N, Hq, D).
    pub(super) mixed: Vec<f32>,
    /// Log of the sum of e^score, (N, Hq).
    pub(super) log_sums: Vec<f32>,
}

struct Task {
    span: usize,
    tokens: Range<usize>,
    kv_head: usize,
}

pub(super) fn forward(
    extents: Extents,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    segments: &Segments,
    options: AttentionOptions,
) -> Output {
    let Extents { tokens, heads, kv_heads, width } = extents;
    let mut mixed = vec![0.0; tokens * heads * width];
    let mut log_sums = vec![0.0; tokens * heads];
    let block = query_tokens(extents.group());
    let mut list = vec![];
    let mut work = 0;
    for (index, span) in segments.spans().iter().enumerate() {
        let prefix = span.prefix.as_ref().map_or(0, |prefix| prefix.len());
        work += (span.end - span.start) * (prefix + span.end - span.start) * heads * width / 8;
        for start in (span.start..span.end).step_by(block) {
            let tokens = start..(start + block).min(span.end);
            list.extend((0..kv_heads).map(|kv_head| Task { span: index, tokens: tokens.clone(), kv_head }));
        }
    }
    let (out, out_sums) = (Shared::new(&mut mixed), Shared::new(&mut log_sums));
    tasks(list.len(), work, |index| {
        run(extents, q, k, v, segments, options, &list[index], out, out_sums);
    });
    Output { mixed, log_sums }
}

#[allow(clippy::too_many_arguments)] // the arguments of `forward` and the task's own
fn run(
    extents: Extents,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    segments: &Segments,
    options: AttentionOptions,
    task: &Task,
    out: Shared,
    out_sums: Shared,
) {
    let Extents { heads, width, .. } = extents;
    let group = extents.group();
    let span = &segments.spans()[task.span];
    let rows = task.tokens.len() * group;
    let mut queries = vec![0.0; rows * width];
    gather_group(extents, q, &task.tokens, task.kv_head, options.scale as f32, &mut queries);
    let mut scores = vec![0.0; rows * KEYS];
    let mut mixed = vec![0.0; rows * width];
    let mut maxima = vec![f32::NEG_INFINITY; rows];
    let mut sums = vec![0.0; rows];
    let mask = Mask { span, segments, window: options.window, first: task.tokens.start, group };
    for block in key_blocks(span, &task.tokens, segments.positions(), options.window) {
        let columns = block.keys.len();
        let keys = head_rows(extents, k, &block.keys, task.kv_head);
        let values = head_rows(extents, v, &block.keys, task.kv_head);
        let queries = View::new(&queries, rows, width);
        block_scores(queries, keys, rows, &block, mask, options, &mut scores);
        let scores = &mut scores[..rows * columns];
        fold_block(scores, columns, &mut maxima, &mut sums, &mut mixed, width);
        let target = Target::new(&mut mixed, rows, width).accumulate(true);
        multiply(target, View::new(scores, rows, columns), values, 1.0, 1);
    }
    for (index, token) in task.tokens.clone().enumerate() {
        let first = token * heads + task.kv_head * group;
        // SAFETY: these heads of these tokens belong to this task alone.
        let (out, out_sums) = unsafe { (out.slice(first * width, group * width), out_sums.slice(first, group)) };
        for head in 0..group {
            let row = index * group + head;
            let inverse = 1.0 / sums[row];
            let from = &mixed[row * width..(row + 1) * width];
            for (out, value) in out[head * width..(head + 1) * width].iter_mut().zip(from) {
                *out = value * inverse;
            }
            out_sums[head] = maxima[row] + sums[row].ln();
        }
    }
}
