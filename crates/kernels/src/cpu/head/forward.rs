//! Log-sum-exp, target logit and terminator score of every row, and where wanted the direction of its gradient.
//!
//! A task owns one chunk of rows by one group of tiles. Groups depend on the vocabulary alone, and
//! their partial sums join in order, so the result does not depend on the threads.
//!
//! With a frozen weight the backward pass depends on w only by a factor: ∂ℓ/∂h = W_y − Σ_v p_v·W_v. The sum is
//! computed in the same sweep, rescaled whenever the running maximum rises as attention does with its values (Milakov
//! and Gimelshein, arXiv 1805.02867): two products in all where recomputing the logits takes three.

use super::{Extras, Head, Inputs, TILE};
use crate::cpu::matmul::{Target, View, multiply};
use crate::cpu::parallel::{Shared, tasks};
use crate::cpu::simd::{dot, exp, fma, max_lanes, simd, sum1, tanh};
use crate::options::{RowEntropy, TOP_TOKENS, TerminatorScore};
use std::ops::Range;

pub(crate) struct Output {
    /// (M), nats.
    pub(crate) log_probs: Vec<f32>,
    /// (M).
    pub(crate) log_sums: Vec<f32>,
    /// (M), or empty without terminators.
    pub(crate) terminators: Vec<TerminatorScore>,
    /// (M), or empty if none was wanted.
    pub(crate) entropies: Vec<f32>,
    /// ∂ℓ/∂h, (M, H), if it was wanted.
    pub(crate) directions: Option<Vec<f32>>,
}

/// Most groups of tiles: more would feed more threads and keep more partial sums.
const GROUPS: usize = 16;

/// Floats of a row's [`Partials::parts`]: maximum, sum of e^(logit − maximum), number of tokens above the likeliest
/// terminator, sum of e^(2·(logit − maximum)).
const PARTS: usize = 4;

/// Log-probabilities of the targets and `extras`, with the directions ∂ℓ/∂h where they are wanted.
pub(crate) fn forward(inputs: Inputs<'_>, extras: Extras<'_>, wants_directions: bool) -> Output {
    let pass = Forward::new(inputs, extras);
    let mut partials = Partials::new(&pass, wants_directions);
    if !wants_directions {
        pass.sweep(0..pass.chunks(), &mut partials);
        return pass.output(&partials, None);
    }
    // Sums of p·W are kept for one chunk at a time: a group's share is as large as the chunk's hidden states.
    let width = inputs.head.width;
    let mut directions = vec![0.0; pass.rows() * width];
    for chunk in 0..pass.chunks() {
        pass.sweep(chunk..chunk + 1, &mut partials);
        let rows = pass.rows_of(chunk);
        pass.directions(rows.clone(), &partials, &mut directions[rows.start * width..rows.end * width]);
    }
    pass.output(&partials, Some(directions))
}

struct Forward<'a> {
    inputs: Inputs<'a>,
    terminators: &'a [u32],
    entropy: Option<RowEntropy>,
    /// (M, terminators), capped.
    terminator_logits: Vec<f32>,
    /// Groups of tiles.
    groups: usize,
}

/// Results of the sweep over tiles.
struct Partials {
    /// (M), capped.
    target_logits: Vec<f32>,
    /// (groups, M, PARTS).
    parts: Vec<f32>,
    /// Σ p·W of one chunk, (groups, rows of a chunk, H); empty if no directions are wanted.
    shares: Vec<f32>,
    /// Floats of one group in `shares`.
    share: usize,
    /// Largest logits, descending, (groups, M, TOP_TOKENS); empty if they are not wanted.
    tops: Vec<f32>,
}

/// Partials that tasks write, each its own part.
#[derive(Clone, Copy)]
struct SharedPartials {
    target_logits: Shared,
    parts: Shared,
    shares: Shared,
    share: usize,
    tops: Shared,
}

impl Partials {
    fn new(pass: &Forward<'_>, wants_directions: bool) -> Self {
        let (rows, Head { width, chunk, .. }) = (pass.rows(), pass.inputs.head);
        let share = if wants_directions { chunk.min(rows) * width } else { 0 };
        Self {
            target_logits: vec![0.0; rows],
            parts: vec![0.0; pass.groups * rows * PARTS],
            shares: vec![0.0; pass.groups * share],
            share,
            tops: vec![f32::NEG_INFINITY; if pass.wants_tops() { pass.groups * rows * TOP_TOKENS } else { 0 }],
        }
    }

    fn shared(&mut self) -> SharedPartials {
        SharedPartials {
            target_logits: Shared::new(&mut self.target_logits),
            parts: Shared::new(&mut self.parts),
            shares: Shared::new(&mut self.shares),
            share: self.share,
            tops: Shared::new(&mut self.tops),
        }
    }
}

impl<'a> Forward<'a> {
    fn new(inputs: Inputs<'a>, extras: Extras<'a>) -> Self {
        let Extras { terminators, entropy } = extras;
        let terminator_logits = terminator_logits(inputs, terminators);
        Self { inputs, terminators, entropy, terminator_logits, groups: inputs.head.tiles().clamp(1, GROUPS) }
    }

    fn wants_tops(&self) -> bool {
        self.entropy == Some(RowEntropy::Top)
    }

    fn rows(&self) -> usize {
        self.inputs.targets.len()
    }

    fn chunks(&self) -> usize {
        self.rows().div_ceil(self.inputs.head.chunk)
    }

    fn rows_of(&self, chunk: usize) -> Range<usize> {
        let first = chunk * self.inputs.head.chunk;
        first..(first + self.inputs.head.chunk).min(self.rows())
    }

    /// The logits of the terminators in `row`, capped; empty without terminators.
    fn terminator_logits(&self, row: usize) -> &[f32] {
        &self.terminator_logits[row * self.terminators.len()..][..self.terminators.len()]
    }

    /// Folds all tiles of `chunks` into the partials.
    fn sweep(&self, chunks: Range<usize>, partials: &mut Partials) {
        let Head { width, vocabulary, chunk, .. } = self.inputs.head;
        let (groups, count) = (self.groups, chunks.len());
        let shared = partials.shared();
        tasks(count * groups, count * chunk.min(self.rows()) * vocabulary * width / 8, |index| {
            self.fold_group(self.rows_of(chunks.start + index / groups), index % groups, shared);
        });
    }

    /// One task: folds the tiles of one group into the partials of `rows`.
    fn fold_group(&self, rows: Range<usize>, group: usize, shared: SharedPartials) {
        let Inputs { head, hidden, weight, .. } = self.inputs;
        let (width, count) = (head.width, rows.len());
        let states = View::new(&hidden[rows.start * width..], count, width);
        // SAFETY: this group's part of these rows belongs to this task alone.
        let parts = unsafe { shared.parts.slice((group * self.rows() + rows.start) * PARTS, count * PARTS) };
        for part in parts.chunks_exact_mut(PARTS) {
            part.copy_from_slice(&[f32::NEG_INFINITY, 0.0, 0.0, 0.0]);
        }
        let mut logits = vec![0.0; count * TILE.min(head.vocabulary)];
        let mut scratch = Vec::new();
        let tiles = head.group(group, self.groups);
        for tile in tiles.clone() {
            let range = head.tile(tile);
            let columns = range.len();
            let logits = &mut logits[..count * columns];
            let entries = View::new(weight.part(range.start * width..range.end * width, &mut scratch), columns, width);
            multiply(Target::new(logits, count, columns), states, entries.t(), 1.0, 1);
            if let Some(cap) = head.soft_cap {
                soft_cap(logits, cap);
            }
            self.pick_targets(rows.clone(), &range, logits, shared.target_logits);
            self.count_above_terminators(rows.clone(), &range, logits, parts);
            match self.entropy {
                None => {}
                Some(RowEntropy::Collision) => fold_squares(logits, columns, parts),
                Some(RowEntropy::Top) => {
                    let first = (group * self.rows() + rows.start) * TOP_TOKENS;
                    // SAFETY: as for `parts`.
                    let tops = unsafe { shared.tops.slice(first, count * TOP_TOKENS) };
                    fold_top(logits, columns, tops);
                }
            }
            if shared.share == 0 {
                fold_tile(logits, columns, parts);
                continue;
            }
            // SAFETY: this share belongs to this task alone.
            let sums = unsafe { shared.shares.slice(group * shared.share, count * width) };
            fold_tile_with_sums(logits, columns, parts, sums, head.soft_cap.map_or(0.0, |cap| 1.0 / cap));
            let target = Target::new(sums, count, width).accumulate(tile != tiles.start);
            multiply(target, View::new(logits, count, columns), entries, 1.0, 1);
        }
    }

    /// Writes the logits of the targets of `rows` that lie in a tile with the vocabulary entries `range`.
    fn pick_targets(&self, rows: Range<usize>, range: &Range<usize>, logits: &[f32], out: Shared) {
        for (index, row) in rows.enumerate() {
            let target = self.inputs.targets[row] as usize;
            if range.contains(&target) {
                // SAFETY: a target lies in one tile alone.
                let out = unsafe { out.slice(row, 1) };
                out[0] = logits[index * range.len() + target - range.start];
            }
        }
    }

    /// Adds to the parts of `rows` the number of a tile's tokens above the likeliest terminator, terminators not
    /// counted.
    fn count_above_terminators(&self, rows: Range<usize>, range: &Range<usize>, logits: &[f32], parts: &mut [f32]) {
        if self.terminators.is_empty() {
            return;
        }
        for ((row, logits), part) in rows.zip(logits.chunks_exact(range.len())).zip(parts.chunks_exact_mut(PARTS)) {
            let bar = best(self.terminator_logits(row));
            part[2] += above(logits, bar) as f32;
            for &terminator in self.terminators {
                let terminator = terminator as usize;
                if range.contains(&terminator) && logits[terminator - range.start] > bar {
                    part[2] -= 1.0;
                }
            }
        }
    }

    /// Maximum logit of `row` over the groups.
    fn maximum(&self, partials: &Partials, row: usize) -> f32 {
        (0..self.groups).map(|group| self.part(partials, group, row)[0]).fold(f32::NEG_INFINITY, f32::max)
    }

    fn part<'p>(&self, partials: &'p Partials, group: usize, row: usize) -> &'p [f32] {
        &partials.parts[(group * self.rows() + row) * PARTS..][..PARTS]
    }

    /// Joins the groups' sums of one chunk: W_y − Σ_v p_v·W_v of its `rows`, into `out`.
    fn directions(&self, rows: Range<usize>, partials: &Partials, out: &mut [f32]) {
        let Inputs { head, targets, .. } = self.inputs;
        let (width, groups) = (head.width, self.groups);
        let out = Shared::new(out);
        tasks(rows.len(), rows.len() * groups * width, |index| {
            let row = rows.start + index;
            // SAFETY: a row belongs to one task alone.
            let out = unsafe { out.slice(index * width, width) };
            let maximum = self.maximum(partials, row);
            let scale = |group: usize| (self.part(partials, group, row)[0] - maximum).exp();
            let sum: f32 = (0..groups).map(|group| self.part(partials, group, row)[1] * scale(group)).sum();
            for group in 0..groups {
                let sums = &partials.shares[group * partials.share + index * width..][..width];
                add_scaled(out, sums, -scale(group) / sum);
            }
            let mut scratch = Vec::new();
            let entry = self.inputs.entry(targets[row], &mut scratch);
            add_scaled(out, entry, head.cap_derivative(partials.target_logits[row]));
        });
    }

    /// Joins the groups' maxima and sums of all rows.
    fn output(&self, partials: &Partials, directions: Option<Vec<f32>>) -> Output {
        let rows = self.rows();
        let mut log_probs = vec![0.0; rows];
        let mut log_sums = vec![0.0; rows];
        let mut terminators = Vec::with_capacity(if self.terminators.is_empty() { 0 } else { rows });
        let mut entropies = Vec::with_capacity(if self.entropy.is_none() { 0 } else { rows });
        for row in 0..rows {
            let log_sum = self.log_sum(partials, row);
            log_sums[row] = log_sum as f32;
            log_probs[row] = (f64::from(partials.target_logits[row]) - log_sum) as f32;
            if !self.terminators.is_empty() {
                terminators.push(self.terminator_score(partials, row, log_sum));
            }
            entropies.extend(self.entropy.map(|entropy| self.entropy(entropy, partials, row)));
        }
        Output { log_probs, log_sums, terminators, entropies, directions }
    }

    fn log_sum(&self, partials: &Partials, row: usize) -> f64 {
        let maximum = self.maximum(partials, row);
        let scaled = |part: &[f32]| f64::from(part[1]) * f64::from(part[0] - maximum).exp();
        let sum: f64 = (0..self.groups).map(|group| scaled(self.part(partials, group, row))).sum();
        f64::from(maximum) + sum.ln()
    }

    /// Joins the groups' squares, or their largest logits.
    fn entropy(&self, entropy: RowEntropy, partials: &Partials, row: usize) -> f32 {
        match entropy {
            RowEntropy::Collision => {
                let maximum = self.maximum(partials, row);
                let parts = (0..self.groups).map(|group| self.part(partials, group, row));
                let (sum, squares) = parts.fold((0.0, 0.0), |(sum, squares), part| {
                    let scale = f64::from(part[0] - maximum).exp();
                    (sum + f64::from(part[1]) * scale, squares + f64::from(part[3]) * scale * scale)
                });
                RowEntropy::of_sums(sum, squares)
            }
            RowEntropy::Top => {
                let of_group = |group| &partials.tops[(group * self.rows() + row) * TOP_TOKENS..][..TOP_TOKENS];
                RowEntropy::of_top(&mut (0..self.groups).flat_map(of_group).copied().collect::<Vec<f32>>())
            }
        }
    }

    fn terminator_score(&self, partials: &Partials, row: usize, log_sum: f64) -> TerminatorScore {
        let logits = self.terminator_logits(row);
        let top = f64::from(best(logits));
        let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - top).exp()).sum();
        TerminatorScore {
            log_prob: (top + total.ln() - log_sum) as f32,
            rank: (0..self.groups).map(|group| self.part(partials, group, row)[2]).sum::<f32>() as u32,
        }
    }
}

/// Logits of the terminators, (M, terminators), capped.
fn terminator_logits(inputs: Inputs<'_>, terminators: &[u32]) -> Vec<f32> {
    let Inputs { head, hidden, targets, .. } = inputs;
    let width = head.width;
    let mut logits = Vec::with_capacity(targets.len() * terminators.len());
    if terminators.is_empty() {
        return logits;
    }
    let mut entries = Vec::with_capacity(terminators.len() * width);
    for &terminator in terminators {
        let mut scratch = Vec::new();
        entries.extend_from_slice(inputs.entry(terminator, &mut scratch));
    }
    for hidden in hidden.chunks_exact(width.max(1)) {
        logits.extend(entries.chunks_exact(width.max(1)).map(|entry| dot(hidden, entry)));
    }
    if let Some(cap) = head.soft_cap {
        soft_cap(&mut logits, cap);
    }
    logits
}

fn best(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

simd! {
    pub(super) fn soft_cap(logits: &mut [f32], cap: f32) {
        let inverse = 1.0 / cap;
        for logit in logits {
            *logit = cap * tanh::<FMA>(*logit * inverse);
        }
    }

    fn above(logits: &[f32], bar: f32) -> u32 {
        logits.iter().map(|&logit| u32::from(logit > bar)).sum()
    }

    /// Folds a tile into the running sums of squares of its rows, before their maxima move.
    fn fold_squares(logits: &[f32], columns: usize, parts: &mut [f32]) {
        for (logits, part) in logits.chunks_exact(columns).zip(parts.chunks_exact_mut(PARTS)) {
            let old = part[0];
            let tile = max_lanes(logits);
            let new = if tile > old { tile } else { old };
            let sum = sum1(logits, |sum, logit| sum + exp::<FMA>(2.0 * (logit - new)));
            part[3] = part[3] * exp::<FMA>(2.0 * (old - new)) + sum;
        }
    }

    /// Folds a tile into the largest logits of its rows, which stand in descending order.
    fn fold_top(logits: &[f32], columns: usize, tops: &mut [f32]) {
        for (logits, top) in logits.chunks_exact(columns).zip(tops.chunks_exact_mut(TOP_TOKENS)) {
            // Few blocks have a logit above the smallest one kept.
            for block in logits.chunks(64) {
                if max_lanes(block) <= top[TOP_TOKENS - 1] {
                    continue;
                }
                for &logit in block.iter() {
                    let place = top.partition_point(|kept| *kept >= logit);
                    if place < TOP_TOKENS {
                        top[place..].rotate_right(1);
                        top[place] = logit;
                    }
                }
            }
        }
    }

    /// Folds a tile into the running maximum and sum of its rows.
    fn fold_tile(logits: &[f32], columns: usize, parts: &mut [f32]) {
        for (logits, part) in logits.chunks_exact(columns).zip(parts.chunks_exact_mut(PARTS)) {
            let old = part[0];
            let tile = max_lanes(logits);
            let new = if tile > old { tile } else { old };
            let sum = sum1(logits, |sum, logit| sum + exp::<FMA>(logit - new));
            part[1] = part[1] * exp::<FMA>(old - new) + sum;
            part[0] = new;
        }
    }

    /// As `fold_tile`; the sums of earlier tiles' p·W are rescaled to the new maximum, and the logits become the weights
    /// of this tile's rows of W: p, times the cap's derivative if there is one (`inverse_cap` 0 is none).
    fn fold_tile_with_sums(
        logits: &mut [f32],
        columns: usize,
        parts: &mut [f32],
        sums: &mut [f32],
        inverse_cap: f32,
    ) {
        let width = sums.len() * columns / logits.len();
        let rows = logits.chunks_exact_mut(columns).zip(sums.chunks_exact_mut(width));
        for ((logits, sums), part) in rows.zip(parts.chunks_exact_mut(PARTS)) {
            let old = part[0];
            let tile = max_lanes(logits);
            let new = if tile > old { tile } else { old };
            let shrink = exp::<FMA>(old - new);
            if new > old && part[1] > 0.0 {
                for sum in sums {
                    *sum *= shrink;
                }
            }
            let total = sum1(logits, |sum, logit| sum + exp::<FMA>(logit - new));
            for logit in logits {
                let t = *logit * inverse_cap;
                *logit = exp::<FMA>(*logit - new) * fma::<FMA>(-t, t, 1.0);
            }
            part[1] = part[1] * shrink + total;
            part[0] = new;
        }
    }

    fn add_scaled(out: &mut [f32], values: &[f32], scale: f32) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = fma::<FMA>(*value, scale, *out);
        }
    }
}
