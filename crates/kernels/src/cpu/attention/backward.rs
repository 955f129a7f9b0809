//! Gradients of queries, keys and values, recomputing the weights block by block.
//!
//! With weights w, output o and its gradient g: dv = wᵀ·g, dw = g·vᵀ,
//! ds = w∘(dw − ⟨g, o⟩), dq = scale·ds·k, dk = scale·dsᵀ·q.
//!
//! A sink s has a weight w and no value: ds = −w·⟨g, o⟩, summed over the tokens.
//!
//! A task owns one key head of one component of the segments (spans that share keys), so every sum
//! has one writer and a fixed order.

use super::Attention;
use super::blocks::{
    KEYS, KeyBlock, Mask, QueryBlock, capped_score_gradient, gather_group, head_rows, key_blocks, query_tokens,
    score_gradient, weights_from_log_sums,
};
use crate::cpu::matmul::{Target, View, multiply};
use crate::cpu::parallel::{Shared, tasks};
use crate::cpu::simd::dot;
use crate::options::{Extents, Span};
use std::ops::Range;

/// The result, its gradient and its log-sums, as the forward pass left them.
#[derive(Clone, Copy)]
pub(crate) struct BackwardInput<'a> {
    /// (N, Hq, D).
    pub(crate) mixed: &'a [f32],
    /// ∂L/∂mixed, (N, Hq, D).
    pub(crate) gradient: &'a [f32],
    /// (N, Hq).
    pub(crate) log_sums: &'a [f32],
}

/// Overwrites the gradients dq, dk and dv.
pub(crate) fn backward(call: Attention<'_>, input: BackwardInput<'_>, [dq, dk, dv]: [&mut [f32]; 3]) {
    let Attention { extents, segments, .. } = call;
    let components = segments.components();
    dk.fill(0.0);
    dv.fill(0.0);
    let pass = Pass { call, input, dq: Shared::new(dq), dk: Shared::new(dk), dv: Shared::new(dv) };
    let work = segments
        .spans()
        .iter()
        .map(|span| {
            let prefix = span.prefix.as_ref().map_or(0, |prefix| prefix.len());
            (span.end - span.start) * (prefix + span.end - span.start)
        })
        .sum::<usize>()
        * extents.heads
        * extents.width
        / 4;
    tasks(components.len() * extents.kv_heads, work, |index| {
        let component = components[index / extents.kv_heads].clone();
        pass.component(component, index % extents.kv_heads);
    });
}

/// Adds the gradient of the sinks, (Hq), to `out`.
pub(crate) fn sink_gradient(call: Attention<'_>, input: BackwardInput<'_>, out: &mut [f32]) {
    let Some(sinks) = call.sinks else { return };
    let Extents { heads, width, .. } = call.extents;
    let mut sums = vec![0f64; heads];
    let rows = input.gradient.chunks_exact(width).zip(input.mixed.chunks_exact(width)).zip(input.log_sums);
    for (row, ((gradient, mixed), log_sum)) in rows.enumerate() {
        let head = row % heads;
        let weight = f64::from(sinks[head] - log_sum).exp();
        sums[head] -= weight * f64::from(dot(gradient, mixed));
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum as f32);
}

struct Pass<'a> {
    call: Attention<'a>,
    input: BackwardInput<'a>,
    dq: Shared,
    dk: Shared,
    dv: Shared,
}

/// Memory of one task, reused by its blocks.
struct Scratch {
    queries: Vec<f32>,
    gradient: Vec<f32>,
    query_gradient: Vec<f32>,
    log_sums: Vec<f32>,
    inner: Vec<f32>,
    scores: Vec<f32>,
    weights: Vec<f32>,
    score_grads: Vec<f32>,
}

impl Pass<'_> {
    fn component(&self, spans: Range<usize>, kv_head: usize) {
        let block = query_tokens(self.call.extents.group());
        let rows = block * self.call.extents.group();
        let width = self.call.extents.width;
        let mut scratch = Scratch {
            queries: vec![0.0; rows * width],
            gradient: vec![0.0; rows * width],
            query_gradient: vec![0.0; rows * width],
            log_sums: vec![0.0; rows],
            inner: vec![0.0; rows],
            scores: vec![0.0; if self.call.options.soft_cap.is_some() { rows * KEYS } else { 0 }],
            weights: vec![0.0; rows * KEYS],
            score_grads: vec![0.0; rows * KEYS],
        };
        for span in &self.call.segments.spans()[spans] {
            for start in (span.start..span.end).step_by(block) {
                let tokens = start..(start + block).min(span.end);
                self.queries(span, tokens, kv_head, &mut scratch);
            }
        }
    }

    fn queries(&self, span: &Span, tokens: Range<usize>, kv_head: usize, scratch: &mut Scratch) {
        let Attention { extents, segments, options, .. } = self.call;
        let Extents { heads, width, .. } = extents;
        let input = self.input;
        let group = extents.group();
        let rows = tokens.len() * group;
        let scale = options.scale as f32;
        gather_group(extents, self.call.q, &tokens, kv_head, scale, &mut scratch.queries);
        gather_group(extents, input.gradient, &tokens, kv_head, 1.0, &mut scratch.gradient);
        for (index, token) in tokens.clone().enumerate() {
            for head in 0..group {
                let at = token * heads + kv_head * group + head;
                let row = index * group + head;
                scratch.log_sums[row] = input.log_sums[at];
                let range = at * width..(at + 1) * width;
                scratch.inner[row] = dot(&input.gradient[range.clone()], &input.mixed[range]);
            }
        }
        let query_gradient = &mut scratch.query_gradient[..rows * width];
        query_gradient.fill(0.0);
        let mask = Mask { span, segments, window: options.window, first: tokens.start, group };
        for block in key_blocks(span, &tokens, segments.positions(), options.window) {
            self.block(&block, mask, rows, kv_head, scratch);
        }
        // SAFETY: this head group of these tokens belongs to this task alone.
        for (index, token) in tokens.enumerate() {
            let first = (token * heads + kv_head * group) * width;
            let len = group * width;
            let out = unsafe { self.dq.slice(first, len) };
            let from = &scratch.query_gradient[index * len..(index + 1) * len];
            for (out, value) in out.iter_mut().zip(from) {
                *out = value * scale;
            }
        }
    }

    fn block(&self, block: &KeyBlock, mask: Mask<'_>, rows: usize, kv_head: usize, scratch: &mut Scratch) {
        let Attention { extents, options, .. } = self.call;
        let width = extents.width;
        let soft_cap = options.soft_cap.map(|cap| cap as f32);
        let columns = block.keys.len();
        let queries = View::new(&scratch.queries, rows, width);
        let gradient = View::new(&scratch.gradient, rows, width);
        let keys = head_rows(extents, self.call.k, &block.keys, kv_head);
        let values = head_rows(extents, self.call.v, &block.keys, kv_head);
        let weights = &mut scratch.weights[..rows * columns];
        QueryBlock { queries, rows, soft_cap, mask }.scores(keys, block, weights);
        if soft_cap.is_some() {
            scratch.scores[..rows * columns].copy_from_slice(weights);
        }
        weights_from_log_sums(weights, columns, &scratch.log_sums[..rows]);
        let row_stride = extents.kv_heads * width;
        let first = block.keys.start * row_stride + kv_head * width;
        // SAFETY: this key head of this component belongs to this task alone, and the key rows of a
        // block do not overlap.
        let target = unsafe { Target::strided(self.dv, first, columns, width, row_stride) };
        multiply(target.accumulate(true), View::new(weights, rows, columns).t(), gradient, 1.0, 1);
        let score_grads = &mut scratch.score_grads[..rows * columns];
        multiply(Target::new(score_grads, rows, columns), gradient, values.t(), 1.0, 1);
        match soft_cap {
            None => score_gradient(weights, columns, &scratch.inner[..rows], score_grads),
            Some(cap) => capped_score_gradient(
                weights,
                columns,
                &scratch.inner[..rows],
                &scratch.scores[..rows * columns],
                cap,
                score_grads,
            ),
        }
        let score_grads = View::new(score_grads, rows, columns);
        let target = Target::new(&mut scratch.query_gradient, rows, width).accumulate(true);
        multiply(target, score_grads, keys, 1.0, 1);
        // The gathered queries carry the scale already.
        // SAFETY: as above.
        let target = unsafe { Target::strided(self.dk, first, columns, width, row_stride) };
        multiply(target.accumulate(true), score_grads.t(), queries, 1.0, 1);
    }
}
