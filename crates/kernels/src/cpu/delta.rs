//! The gated delta rule (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464), token by token.
//!
//! A value head has a state S (K, V), of zeros at first. With q over √K and k of unit length, γ = e^g:
//!
//! ```text
//! S ← γ S;   δ = β (v − Sᵀ k);   S ← S + k δᵀ;   y = Sᵀ q
//! ```
//!
//! The columns of S do not depend on each other, so `LANES` of them at a time stay in the first-level cache.
//!
//! The backward pass saves nothing but the arguments. It runs the tokens again, keeps S at the start of each chunk, and then,
//! from the last chunk to the first, S at each token of one chunk. With S′ = γ S before the token's update, for each token:
//!
//! ```text
//! dS += q dyᵀ;   dq = S dy;   dδ = dSᵀ k;   de = β dδ;   dβ = ⟨dδ, v − S′ᵀ k⟩;   dv = de
//! dk = dS δ − S′ de;   dS −= k deᵀ;   dg = ⟨dS, S′⟩;   dS ← γ dS
//! ```

use super::parallel::{Shared, tasks};
use super::simd::{fma, fold_lanes, simd, sum1, sum2};
use crate::error::Result;
use crate::options::{DeltaHeads, Segments};
use std::ops::Range;

/// Columns of a state that are computed side by side.
pub(crate) use super::simd::LANES;

/// A row of some columns of a state, or those columns of a value.
pub(crate) type Lanes = [f32; LANES];

/// ε, added to the squared length of queries and keys.
const EPS: f32 = 1e-6;

/// Tokens of a chunk: each state of one is kept at a time.
const CHUNK: usize = 32;

/// The arguments of a rule on N tokens.
#[derive(Clone, Copy)]
pub(crate) struct DeltaInputs<'a> {
    /// Queries, keys and values side by side, (N, row width).
    pub(crate) qkv: &'a [f32],
    /// g: logarithm of the decay, (N, value heads).
    pub(crate) decay: &'a [f32],
    /// β, (N, value heads).
    pub(crate) strength: &'a [f32],
}

/// Gradients of the arguments, all overwritten.
pub(crate) struct DeltaGrads<'a> {
    pub(crate) qkv: &'a mut [f32],
    pub(crate) decay: &'a mut [f32],
    pub(crate) strength: &'a mut [f32],
}

/// The rule over packed sequences.
pub(crate) struct DeltaRule {
    heads: DeltaHeads,
    segments: Segments,
    /// The span whose last state each span starts with; `None` is a state of zeros.
    parents: Vec<Option<usize>>,
}

impl DeltaRule {
    pub(crate) fn new(heads: DeltaHeads, segments: &Segments) -> Result<Self> {
        Ok(Self { heads, parents: segments.continued()?, segments: segments.clone() })
    }

    /// (N, value heads, V).
    pub(crate) fn forward(&self, inputs: DeltaInputs<'_>) -> Vec<f32> {
        let heads = self.heads;
        let mut values = vec![0.0; self.segments.tokens() * heads.value_width()];
        let out = Shared::new(&mut values);
        self.tasks(3, |spans, key_head| {
            let tokens = self.tokens_of(&spans);
            let keys = UnitKeys::new(heads, inputs.qkv, tokens.clone(), key_head);
            for head in key_head * heads.group()..(key_head + 1) * heads.group() {
                let gates = Gates::new(heads, inputs, tokens.clone(), head);
                for first in (0..heads.value_dim).step_by(LANES) {
                    let place = ValuePlace { heads, tokens: tokens.clone(), head, first };
                    let columns = Columns { keys: &keys, gates: &gates, values: &place.gather_qkv(inputs.qkv) };
                    let mut outputs = vec![[0.0; LANES]; tokens.len()];
                    self.run_spans(&spans, columns, &mut outputs);
                    for (token, lanes) in tokens.clone().zip(&outputs) {
                        // SAFETY: these columns of these tokens belong to this task alone.
                        let out = unsafe { out.slice(token * heads.value_width() + place.offset(), place.count()) };
                        out.copy_from_slice(&lanes[..out.len()]);
                    }
                }
            }
        });
        values
    }

    /// From the gradient `dy` of the result to those of the arguments.
    pub(crate) fn backward(&self, inputs: DeltaInputs<'_>, dy: &[f32], grads: DeltaGrads<'_>) {
        let heads = self.heads;
        let [d_qkv, d_decay, d_strength] = [grads.qkv, grads.decay, grads.strength].map(Shared::new);
        self.tasks(12, |spans, key_head| {
            let tokens = self.tokens_of(&spans);
            let keys = UnitKeys::new(heads, inputs.qkv, tokens.clone(), key_head);
            let mut d_keys = KeyGrads::new(tokens.len() * heads.key_dim);
            for head in key_head * heads.group()..(key_head + 1) * heads.group() {
                let gates = Gates::new(heads, inputs, tokens.clone(), head);
                let mut d_gates = GateGrads::new(tokens.len());
                for first in (0..heads.value_dim).step_by(LANES) {
                    let place = ValuePlace { heads, tokens: tokens.clone(), head, first };
                    let columns = Columns { keys: &keys, gates: &gates, values: &place.gather_qkv(inputs.qkv) };
                    let dy = place.gather(dy, heads.value_width(), 0);
                    let d_values = self.back_spans(&spans, columns, &dy, &mut d_keys, &mut d_gates);
                    for (token, lanes) in tokens.clone().zip(&d_values) {
                        let start = token * heads.row_width() + 2 * heads.key_width() + place.offset();
                        // SAFETY: the columns of this key head and of its value heads belong to this task alone.
                        let out = unsafe { d_qkv.slice(start, place.count()) };
                        out.copy_from_slice(&lanes[..out.len()]);
                    }
                }
                for (index, token) in tokens.clone().enumerate() {
                    let place = token * heads.value_heads + head;
                    // SAFETY: as above.
                    unsafe {
                        d_decay.slice(place, 1)[0] = d_gates.decay[index];
                        d_strength.slice(place, 1)[0] = d_gates.strength[index];
                    }
                }
            }
            for (index, token) in tokens.enumerate() {
                for (part, d_unit) in [&d_keys.queries, &d_keys.keys].into_iter().enumerate() {
                    let start = token * heads.row_width() + part * heads.key_width() + key_head * heads.key_dim;
                    let x = &inputs.qkv[start..start + heads.key_dim];
                    let scale = if part == 0 { query_scale(heads) } else { 1.0 };
                    // SAFETY: as above.
                    let out = unsafe { d_qkv.slice(start, heads.key_dim) };
                    unit_backward(x, scale, &d_unit[index * heads.key_dim..][..heads.key_dim], out);
                }
            }
        });
    }

    /// Runs `task` for each component's spans and each key head; `passes` over the state for a token.
    fn tasks(&self, passes: usize, task: impl Fn(Range<usize>, usize) + Send + Sync) {
        let DeltaHeads { key_heads, value_heads, key_dim, value_dim } = self.heads;
        let components = self.segments.components();
        let work = passes * self.segments.tokens() * value_heads * key_dim * value_dim;
        tasks(components.len() * key_heads, work, |index| {
            task(components[index / key_heads].clone(), index % key_heads);
        });
    }

    fn tokens_of(&self, spans: &Range<usize>) -> Range<usize> {
        let all = &self.segments.spans()[spans.clone()];
        all.first().map_or(0, |span| span.start)..all.last().map_or(0, |span| span.end)
    }

    /// Tokens of a span from the first of its component on.
    fn within(&self, spans: &Range<usize>, index: usize) -> Range<usize> {
        let (first, span) = (self.tokens_of(spans).start, &self.segments.spans()[index]);
        span.start - first..span.end - first
    }

    /// The state that a span starts with, from the last ones of those before.
    fn start(&self, spans: &Range<usize>, index: usize, last: &[Vec<Lanes>]) -> Vec<Lanes> {
        match self.parents[index] {
            None => vec![[0.0; LANES]; self.heads.key_dim],
            Some(parent) => last[parent - spans.start].clone(),
        }
    }

    /// True if a later span goes on from this one.
    fn is_parent(&self, index: usize) -> bool {
        self.parents[index..].contains(&Some(index))
    }

    /// Outputs of the spans of a component.
    fn run_spans(&self, spans: &Range<usize>, columns: Columns<'_>, outputs: &mut [Lanes]) {
        let mut last: Vec<Vec<Lanes>> = Vec::with_capacity(spans.len());
        for index in spans.clone() {
            let own = self.within(spans, index);
            let mut state = self.start(spans, index, &last);
            run(&mut state, columns.part(own.clone()), &mut outputs[own]);
            last.push(if self.is_parent(index) { state } else { Vec::new() });
        }
    }

    /// Gradients of the values of a component's spans; those of keys and gates are added to.
    fn back_spans(
        &self,
        spans: &Range<usize>,
        columns: Columns<'_>,
        dy: &[Lanes],
        d_keys: &mut KeyGrads,
        d_gates: &mut GateGrads,
    ) -> Vec<Lanes> {
        let dim = self.heads.key_dim;
        let mut spare = vec![[0.0; LANES]; dy.len()];
        let mut last: Vec<Vec<Lanes>> = Vec::with_capacity(spans.len());
        for index in spans.clone() {
            let mut state = Vec::new();
            if self.is_parent(index) {
                state = self.start(spans, index, &last);
                let own = self.within(spans, index);
                run(&mut state, columns.part(own.clone()), &mut spare[own]);
            }
            last.push(state);
        }
        let mut d_last = vec![vec![[0.0; LANES]; dim]; spans.len()];
        let mut d_values = spare;
        for index in spans.clone().rev() {
            let mut d_state = std::mem::take(&mut d_last[index - spans.start]);
            let mut chunk_starts = Vec::new();
            let mut state = self.start(spans, index, &last);
            let own = self.within(spans, index);
            let chunks: Vec<Range<usize>> =
                own.clone().step_by(CHUNK).map(|start| start..(start + CHUNK).min(own.end)).collect();
            for chunk in &chunks {
                chunk_starts.extend_from_slice(&state);
                run(&mut state, columns.part(chunk.clone()), &mut d_values[chunk.clone()]);
            }
            let mut states = vec![[0.0; LANES]; (CHUNK + 1) * dim];
            for (chunk, start) in chunks.iter().zip(chunk_starts.chunks_exact(dim)).rev() {
                let part = columns.part(chunk.clone());
                states[..dim].copy_from_slice(start);
                run_keeping(&mut states, part);
                let keys = chunk.start * dim..chunk.end * dim;
                let grads = ColumnGrads {
                    queries: &mut d_keys.queries[keys.clone()],
                    keys: &mut d_keys.keys[keys],
                    decay: &mut d_gates.decay[chunk.clone()],
                    strength: &mut d_gates.strength[chunk.clone()],
                    values: &mut d_values[chunk.clone()],
                };
                back(&states, part, &dy[chunk.clone()], &mut d_state, grads);
            }
            if let Some(parent) = self.parents[index] {
                let sum = d_last[parent - spans.start].iter_mut().flatten();
                sum.zip(d_state.iter().flatten()).for_each(|(sum, d)| *sum += d);
            }
        }
        d_values
    }
}

/// Factor on queries of unit length.
pub(crate) fn query_scale(heads: DeltaHeads) -> f32 {
    (heads.key_dim as f32).sqrt().recip()
}

/// Queries and keys of one key head, of unit length, (T, K) each.
pub(crate) struct UnitKeys {
    pub(crate) queries: Vec<f32>,
    pub(crate) keys: Vec<f32>,
    dim: usize,
}

impl UnitKeys {
    pub(crate) fn new(heads: DeltaHeads, qkv: &[f32], tokens: Range<usize>, key_head: usize) -> Self {
        let dim = heads.key_dim;
        let of = |part: usize, scale: f32| {
            let mut all = vec![0.0; tokens.len() * dim];
            for (token, out) in tokens.clone().zip(all.chunks_exact_mut(dim)) {
                let start = token * heads.row_width() + part * heads.key_width() + key_head * dim;
                unit(&qkv[start..start + dim], scale, out);
            }
            all
        };
        Self { queries: of(0, query_scale(heads)), keys: of(1, 1.0), dim }
    }
}

struct KeyGrads {
    queries: Vec<f32>,
    keys: Vec<f32>,
}

impl KeyGrads {
    fn new(len: usize) -> Self {
        Self { queries: vec![0.0; len], keys: vec![0.0; len] }
    }
}

/// γ and β of one value head, (T) each.
pub(crate) struct Gates {
    decay: Vec<f32>,
    strength: Vec<f32>,
}

impl Gates {
    pub(crate) fn new(heads: DeltaHeads, inputs: DeltaInputs<'_>, tokens: Range<usize>, head: usize) -> Self {
        let place = |token: usize| token * heads.value_heads + head;
        Self {
            decay: tokens.clone().map(|token| inputs.decay[place(token)].exp()).collect(),
            strength: tokens.map(|token| inputs.strength[place(token)]).collect(),
        }
    }
}

struct GateGrads {
    decay: Vec<f32>,
    strength: Vec<f32>,
}

impl GateGrads {
    fn new(len: usize) -> Self {
        Self { decay: vec![0.0; len], strength: vec![0.0; len] }
    }
}

/// Some columns of a value head on some tokens.
pub(crate) struct ValuePlace {
    pub(crate) heads: DeltaHeads,
    pub(crate) tokens: Range<usize>,
    pub(crate) head: usize,
    /// The first of the columns.
    pub(crate) first: usize,
}

impl ValuePlace {
    /// The first column among those of all value heads.
    pub(crate) fn offset(&self) -> usize {
        self.head * self.heads.value_dim + self.first
    }

    /// Number of columns.
    pub(crate) fn count(&self) -> usize {
        LANES.min(self.heads.value_dim - self.first)
    }

    /// The columns of `rows` (N, `width`), where those of the value heads start at `start`; zeros beyond the last.
    fn gather(&self, rows: &[f32], width: usize, start: usize) -> Vec<Lanes> {
        let lanes = |token: usize| {
            let mut lanes = [0.0; LANES];
            let place = token * width + start + self.offset();
            lanes[..self.count()].copy_from_slice(&rows[place..place + self.count()]);
            lanes
        };
        self.tokens.clone().map(lanes).collect()
    }

    /// The values.
    pub(crate) fn gather_qkv(&self, qkv: &[f32]) -> Vec<Lanes> {
        self.gather(qkv, self.heads.row_width(), 2 * self.heads.key_width())
    }
}

/// Arguments of some columns of a value head.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) keys: &'a UnitKeys,
    pub(crate) gates: &'a Gates,
    pub(crate) values: &'a [Lanes],
}

impl<'a> Columns<'a> {
    /// Those of some tokens.
    pub(crate) fn part(self, tokens: Range<usize>) -> Part<'a> {
        let keys = tokens.start * self.keys.dim..tokens.end * self.keys.dim;
        Part {
            queries: &self.keys.queries[keys.clone()],
            keys: &self.keys.keys[keys],
            decay: &self.gates.decay[tokens.clone()],
            strength: &self.gates.strength[tokens.clone()],
            values: &self.values[tokens],
        }
    }
}

/// The same of some tokens.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    queries: &'a [f32],
    keys: &'a [f32],
    decay: &'a [f32],
    strength: &'a [f32],
    values: &'a [Lanes],
}

/// Gradients of a part, added to; those of values are overwritten.
struct ColumnGrads<'a> {
    queries: &'a mut [f32],
    keys: &'a mut [f32],
    decay: &'a mut [f32],
    strength: &'a mut [f32],
    values: &'a mut [Lanes],
}

/// One token: `state` (K) to the next, and the output.
#[inline(always)]
fn step<const FMA: bool>(state: &mut [Lanes], part: &Part<'_>, token: usize) -> Lanes {
    let dim = state.len();
    let (queries, keys) = (&part.queries[token * dim..][..dim], &part.keys[token * dim..][..dim]);
    let (decay, strength, value) = (part.decay[token], part.strength[token], &part.values[token]);
    let read = read::<FMA>(state, keys);
    let mut change = [0f32; LANES];
    for lane in 0..LANES {
        change[lane] = strength * (value[lane] - decay * read[lane]);
    }
    let mut out = [0f32; LANES];
    for ((row, &q), &k) in state.iter_mut().zip(queries).zip(keys) {
        for lane in 0..LANES {
            row[lane] = fma::<FMA>(k, change[lane], decay * row[lane]);
            out[lane] = fma::<FMA>(q, row[lane], out[lane]);
        }
    }
    out
}

/// Sᵀ k.
#[inline(always)]
fn read<const FMA: bool>(state: &[Lanes], keys: &[f32]) -> Lanes {
    let mut sums = [0f32; LANES];
    for (row, &k) in state.iter().zip(keys) {
        for lane in 0..LANES {
            sums[lane] = fma::<FMA>(k, row[lane], sums[lane]);
        }
    }
    sums
}

simd! {
    /// Runs the tokens of a part: `state` (K) to that after the last, and their outputs.
    pub(crate) fn run(state: &mut [Lanes], part: Part<'_>, out: &mut [Lanes]) {
        for (token, out) in out.iter_mut().enumerate() {
            *out = step::<FMA>(state, &part, token);
        }
    }

    /// Keeps every state: `states` (T + 1, K) has the first.
    fn run_keeping(states: &mut [Lanes], part: Part<'_>) {
        let dim = part.keys.len() / part.decay.len().max(1);
        for token in 0..part.decay.len() {
            let (before, after) = states[token * dim..].split_at_mut(dim);
            after[..dim].copy_from_slice(before);
            step::<FMA>(&mut after[..dim], &part, token);
        }
    }

    /// From the gradient of the state after the last token to that of the one before the first.
    fn back(states: &[Lanes], part: Part<'_>, dy: &[Lanes], d_state: &mut [Lanes], grads: ColumnGrads<'_>) {
        let dim = d_state.len();
        for token in (0..part.decay.len()).rev() {
            let (before, after) = (&states[token * dim..][..dim], &states[(token + 1) * dim..][..dim]);
            let (queries, keys) = (&part.queries[token * dim..][..dim], &part.keys[token * dim..][..dim]);
            let (decay, strength, value, dy) =
                (part.decay[token], part.strength[token], &part.values[token], &dy[token]);
            let read = read::<FMA>(before, keys);
            let (d_queries, d_keys) = (&mut grads.queries[token * dim..][..dim], &mut grads.keys[token * dim..][..dim]);
            let mut d_change = [0f32; LANES];
            for (((d_row, row), (&q, &k)), dq) in
                d_state.iter_mut().zip(after).zip(queries.iter().zip(keys)).zip(d_queries)
            {
                let mut along = [0f32; LANES];
                for lane in 0..LANES {
                    d_row[lane] = fma::<FMA>(q, dy[lane], d_row[lane]);
                    d_change[lane] = fma::<FMA>(k, d_row[lane], d_change[lane]);
                    along[lane] = row[lane] * dy[lane];
                }
                *dq += fold_lanes(along);
            }
            let (mut error, mut d_error, mut d_strength) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
            for lane in 0..LANES {
                error[lane] = value[lane] - decay * read[lane];
                d_error[lane] = strength * d_change[lane];
                d_strength[lane] = d_change[lane] * error[lane];
            }
            let mut d_decay = [0f32; LANES];
            for (((d_row, row), &k), dk) in d_state.iter_mut().zip(before).zip(keys).zip(d_keys) {
                let mut along = [0f32; LANES];
                for lane in 0..LANES {
                    let decayed = decay * row[lane];
                    along[lane] = fma::<FMA>(-decayed, d_error[lane], d_row[lane] * (strength * error[lane]));
                    let d = fma::<FMA>(-k, d_error[lane], d_row[lane]);
                    d_decay[lane] = fma::<FMA>(d, decayed, d_decay[lane]);
                    d_row[lane] = decay * d;
                }
                *dk += fold_lanes(along);
            }
            grads.decay[token] += fold_lanes(d_decay);
            grads.strength[token] += fold_lanes(d_strength);
            grads.values[token] = d_error;
        }
    }

    /// `x` of unit length, times `scale`.
    fn unit(x: &[f32], scale: f32, out: &mut [f32]) {
        let factor = scale * inverse_length::<FMA>(x);
        for (out, &x) in out.iter_mut().zip(x) {
            *out = factor * x;
        }
    }

    /// The gradient of `x`, given that of the same.
    fn unit_backward(x: &[f32], scale: f32, d_unit: &[f32], out: &mut [f32]) {
        let inverse = inverse_length::<FMA>(x);
        let along = inverse * inverse * sum2(x, d_unit, |sum, x, d| fma::<FMA>(x, d, sum));
        for ((out, &x), &d) in out.iter_mut().zip(x).zip(d_unit) {
            *out = scale * inverse * fma::<FMA>(-along, x, d);
        }
    }
}

#[inline(always)]
fn inverse_length<const FMA: bool>(x: &[f32]) -> f32 {
    (sum1(x, |sum, x| fma::<FMA>(x, x, sum)) + EPS).sqrt().recip()
}

/// g = −e^a · softplus(x + b), a decay's logarithm, of one head.
pub(crate) fn log_decay(x: f32, rate: f32, bias: f32) -> f32 {
    -rate.exp() * softplus(x + bias)
}

/// Gradients of `x` (N, heads), overwritten, and of rates and biases (heads), returned, from that of [`log_decay`].
pub(crate) fn log_decay_backward([x, rates, biases]: [&[f32]; 3], dg: &[f32], dx: &mut [f32]) -> (Vec<f32>, Vec<f32>) {
    let heads = rates.len();
    let (mut d_rates, mut d_biases) = (vec![0f64; heads], vec![0f64; heads]);
    for (index, (&x, &dg)) in x.iter().zip(dg).enumerate() {
        let head = index % heads;
        let (rate, x) = (rates[head].exp(), x + biases[head]);
        let d = -rate * dg / (1.0 + (-x).exp());
        dx[index] = d;
        d_biases[head] += f64::from(d);
        d_rates[head] -= f64::from(rate * softplus(x) * dg);
    }
    let narrow = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
    (narrow(d_rates), narrow(d_biases))
}

/// ln(1 + eˣ).
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
