//! Weighted values, block by block.

use super::Attention;
use super::blocks::{KEYS, Mask, QueryBlock, fold_block, gather_group, head_rows, key_blocks, query_tokens};
use crate::cpu::matmul::{Target, View, multiply};
use crate::cpu::parallel::{Shared, tasks};
use crate::options::Extents;
use std::ops::Range;

pub(crate) struct Output {
    /// (N, Hq, D).
    pub(crate) mixed: Vec<f32>,
    /// Log of the sum of e^score, that of a sink included, (N, Hq).
    pub(crate) log_sums: Vec<f32>,
}

/// One block of queries of one key head.
struct Task {
    span: usize,
    tokens: Range<usize>,
    kv_head: usize,
}

/// Shared memory of the results.
#[derive(Clone, Copy)]
struct Results {
    mixed: Shared,
    log_sums: Shared,
}

/// Running softmax of a task's rows.
struct Running {
    /// Weighted values so far, (rows, D).
    mixed: Vec<f32>,
    maxima: Vec<f32>,
    sums: Vec<f32>,
}

pub(crate) fn forward(call: Attention<'_>) -> Output {
    let Extents { tokens, heads, kv_heads, width } = call.extents;
    let mut mixed = vec![0.0; tokens * heads * width];
    let mut log_sums = vec![0.0; tokens * heads];
    let block = query_tokens(call.extents.group());
    let mut list = vec![];
    let mut work = 0;
    for (index, span) in call.segments.spans().iter().enumerate() {
        let prefix = span.prefix.as_ref().map_or(0, |prefix| prefix.len());
        work += (span.end - span.start) * (prefix + span.end - span.start) * heads * width / 8;
        for start in (span.start..span.end).step_by(block) {
            let tokens = start..(start + block).min(span.end);
            list.extend((0..kv_heads).map(|kv_head| Task { span: index, tokens: tokens.clone(), kv_head }));
        }
    }
    let results = Results { mixed: Shared::new(&mut mixed), log_sums: Shared::new(&mut log_sums) };
    tasks(list.len(), work, |index| {
        let task = &list[index];
        task.write(call.extents, &task.attend(call), results);
    });
    Output { mixed, log_sums }
}

impl Running {
    /// Before the first key: a row has seen its sink alone, if its head has one.
    fn new(rows: usize, width: usize, sinks: Option<&[f32]>) -> Self {
        let (maxima, sums) = match sinks {
            None => (vec![f32::NEG_INFINITY; rows], vec![0.0; rows]),
            Some(sinks) => (sinks.iter().copied().cycle().take(rows).collect(), vec![1.0; rows]),
        };
        Self { mixed: vec![0.0; rows * width], maxima, sums }
    }
}

impl Task {
    /// Sinks of the task's heads.
    fn sinks<'a>(&self, call: Attention<'a>) -> Option<&'a [f32]> {
        let group = call.extents.group();
        call.sinks.map(|sinks| &sinks[self.kv_head * group..(self.kv_head + 1) * group])
    }

    /// Attention of the task's queries to all their keys.
    fn attend(&self, call: Attention<'_>) -> Running {
        let Attention { extents, segments, options, .. } = call;
        let (width, group) = (extents.width, extents.group());
        let span = &segments.spans()[self.span];
        let rows = self.tokens.len() * group;
        let mut queries = vec![0.0; rows * width];
        gather_group(extents, call.q, &self.tokens, self.kv_head, options.scale as f32, &mut queries);
        let mut scores = vec![0.0; rows * KEYS];
        let mut running = Running::new(rows, width, self.sinks(call));
        let query_block = QueryBlock {
            queries: View::new(&queries, rows, width),
            rows,
            soft_cap: options.soft_cap.map(|cap| cap as f32),
            mask: Mask { span, segments, window: options.window, first: self.tokens.start, group },
        };
        for block in key_blocks(span, &self.tokens, segments.positions(), options.window) {
            let columns = block.keys.len();
            let keys = head_rows(extents, call.k, &block.keys, self.kv_head);
            let values = head_rows(extents, call.v, &block.keys, self.kv_head);
            query_block.scores(keys, &block, &mut scores);
            let scores = &mut scores[..rows * columns];
            let Running { mixed, maxima, sums } = &mut running;
            fold_block(scores, columns, maxima, sums, mixed, width);
            let target = Target::new(mixed, rows, width).accumulate(true);
            multiply(target, View::new(scores, rows, columns), values, 1.0, 1);
        }
        running
    }

    /// Divides by the sums and writes the task's rows of the results.
    fn write(&self, extents: Extents, running: &Running, results: Results) {
        let Extents { heads, width, .. } = extents;
        let Running { mixed, maxima, sums } = running;
        let group = extents.group();
        for (index, token) in self.tokens.clone().enumerate() {
            let first = token * heads + self.kv_head * group;
            // SAFETY: these heads of these tokens belong to this task alone.
            let (out, log_sums) =
                unsafe { (results.mixed.slice(first * width, group * width), results.log_sums.slice(first, group)) };
            for head in 0..group {
                let row = index * group + head;
                let inverse = 1.0 / sums[row];
                let from = &mixed[row * width..(row + 1) * width];
                for (out, value) in out[head * width..(head + 1) * width].iter_mut().zip(from) {
                    *out = value * inverse;
                }
                log_sums[head] = maxima[row] + sums[row].ln();
            }
        }
    }
}
