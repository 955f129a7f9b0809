//! Gradients of hidden states and head weight, recomputing logits tile by tile.
//!
//! Rows with a gradient are packed first. Chunk by chunk of them, a task owns one group of tiles:
//! its rows of the weight's gradient are its own, its share of the hidden states' gradient is
//! added up in the order of the groups afterwards.

use super::forward::soft_cap;
use super::{Head, Inputs, TILE};
use crate::cpu::GradBuffer;
use crate::cpu::matmul::{Target, View, multiply};
use crate::cpu::parallel::{Shared, rows_per_piece, tasks};
use crate::cpu::simd::{add_assign, exp, fma, simd};
use std::ops::Range;

/// Most groups of tiles: each keeps a chunk's share of the hidden states' gradient.
const GROUPS: usize = 16;

/// The backward pass of one call.
pub(crate) struct Backward<'a> {
    pub(crate) inputs: Inputs<'a>,
    /// (M), as the forward pass computed them.
    pub(crate) log_sums: &'a [f32],
    /// w = ∂L/∂ℓ, (M).
    pub(crate) gradient: &'a [f32],
}

/// One chunk of packed rows and the memory its tasks write.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    /// Row indices of the call.
    rows: &'a [usize],
    /// Their hidden states, (rows, H).
    states: View<'a>,
    /// Shares of the hidden states' gradient, one a group of `share` floats; `share` 0 if none is wanted.
    shares: Shared,
    share: usize,
    /// The weight's gradient, if it is wanted.
    d_weight: Option<Shared>,
    /// True to add to the weight's gradient.
    accumulate: bool,
}

/// Writes w·∂ℓ/∂h of every row, or adds it.
pub(crate) fn scale_directions(directions: &[f32], gradient: &[f32], d_hidden: &mut GradBuffer) {
    let width = directions.len() / gradient.len().max(1);
    let accumulate = d_hidden.accumulate;
    let out = Shared::new(&mut d_hidden.values);
    let piece = rows_per_piece(width);
    tasks(gradient.len().div_ceil(piece), directions.len(), |index| {
        let first = index * piece;
        let gradient = &gradient[first..gradient.len().min(first + piece)];
        // SAFETY: rows of this piece belong to this task alone.
        let out = unsafe { out.slice(first * width, gradient.len() * width) };
        for (row, &w) in gradient.iter().enumerate() {
            let at = row * width..(row + 1) * width;
            scale_into(&mut out[at.clone()], &directions[first * width..][at], w, accumulate);
        }
    });
}

impl Backward<'_> {
    /// Writes the gradients of hidden states and head weight, or adds to them.
    pub(crate) fn run(&self, mut d_hidden: Option<&mut GradBuffer>, d_weight: Option<&mut GradBuffer>) {
        let Head { width, vocabulary, chunk, .. } = self.inputs.head;
        let rows: Vec<usize> = (0..self.inputs.targets.len()).filter(|&row| self.gradient[row] != 0.0).collect();
        if let Some(d_hidden) = &mut d_hidden {
            d_hidden.zero_unless_accumulating();
        }
        let mut accumulate = false;
        let mut weight_out = None;
        if let Some(d_weight) = d_weight {
            if rows.is_empty() {
                d_weight.zero_unless_accumulating();
            }
            accumulate = d_weight.accumulate;
            weight_out = Some(Shared::new(&mut d_weight.values));
        }
        let groups = self.inputs.head.tiles().clamp(1, GROUPS);
        let mut packed = vec![0.0; chunk.min(rows.len()) * width];
        let share = if d_hidden.is_some() { packed.len() } else { 0 };
        let mut shares = vec![0.0; groups * share];
        for rows in rows.chunks(chunk) {
            self.pack(rows, &mut packed);
            let chunk = Chunk {
                rows,
                states: View::new(&packed, rows.len(), width),
                shares: Shared::new(&mut shares),
                share,
                d_weight: weight_out,
                accumulate,
            };
            tasks(groups, rows.len() * vocabulary * width / 4, |group| {
                self.group(chunk, group, self.inputs.head.group(group, groups));
            });
            accumulate = true;
            if let Some(d_hidden) = &mut d_hidden {
                add_shares(rows, &shares, share, width, &mut d_hidden.values);
            }
        }
    }

    /// Copies the hidden states of `rows` side by side.
    fn pack(&self, rows: &[usize], packed: &mut [f32]) {
        let width = self.inputs.head.width;
        for (out, &row) in packed.chunks_exact_mut(width.max(1)).zip(rows) {
            out.copy_from_slice(&self.inputs.hidden[row * width..(row + 1) * width]);
        }
    }

    /// One task: the rows of `tiles` of the weight's gradient, and their share of the hidden states'.
    fn group(&self, chunk: Chunk<'_>, group: usize, tiles: Range<usize>) {
        let Inputs { head, weight, .. } = self.inputs;
        let (width, count) = (head.width, chunk.rows.len());
        let mut logits = vec![0.0; count * TILE.min(head.vocabulary)];
        let mut scratch = Vec::new();
        for tile in tiles.clone() {
            let range = head.tile(tile);
            let columns = range.len();
            let logits = &mut logits[..count * columns];
            let entries = View::new(weight.part(range.start * width..range.end * width, &mut scratch), columns, width);
            multiply(Target::new(logits, count, columns), chunk.states, entries.t(), 1.0, 1);
            self.logit_grads(chunk.rows, range.start, columns, logits);
            let logit_grads = View::new(logits, count, columns);
            if let Some(out) = chunk.d_weight {
                // SAFETY: the entries of this tile belong to this task alone.
                let out = unsafe { out.slice(range.start * width, columns * width) };
                let target = Target::new(out, columns, width).accumulate(chunk.accumulate);
                multiply(target, logit_grads.t(), chunk.states, 1.0, 1);
            }
            if chunk.share > 0 {
                // SAFETY: this share belongs to this task alone.
                let out = unsafe { chunk.shares.slice(group * chunk.share, count * width) };
                let target = Target::new(out, count, width).accumulate(tile != tiles.start);
                multiply(target, logit_grads, entries, 1.0, 1);
            }
        }
    }

    /// Turns a tile's logits, from vocabulary entry `first` on, into ∂L/∂logits = w·(onehot − softmax), backward through
    /// the cap.
    fn logit_grads(&self, rows: &[usize], first: usize, columns: usize, logits: &mut [f32]) {
        let head = self.inputs.head;
        if let Some(cap) = head.soft_cap {
            soft_cap(logits, cap);
        }
        for (&row, logits) in rows.iter().zip(logits.chunks_exact_mut(columns)) {
            let w = self.gradient[row];
            let target = (self.inputs.targets[row] as usize).checked_sub(first).filter(|&t| t < columns);
            let target_logit = target.map(|target| logits[target]);
            match head.soft_cap {
                None => softmax_grads(logits, self.log_sums[row], w),
                Some(cap) => capped_softmax_grads(logits, self.log_sums[row], w, cap),
            }
            if let (Some(target), Some(logit)) = (target, target_logit) {
                logits[target] += w * head.cap_derivative(logit);
            }
        }
    }
}

/// Adds the groups' shares of packed `rows` to the hidden states' gradient, in the order of the groups.
fn add_shares(rows: &[usize], shares: &[f32], share: usize, width: usize, d_hidden: &mut [f32]) {
    for (index, &row) in rows.iter().enumerate() {
        let out = &mut d_hidden[row * width..(row + 1) * width];
        for share in shares.chunks_exact(share.max(1)) {
            add_assign(out, &share[index * width..][..width]);
        }
    }
}

simd! {
    fn softmax_grads(logits: &mut [f32], log_sum: f32, w: f32) {
        for logit in logits {
            *logit = -w * exp::<FMA>(*logit - log_sum);
        }
    }

    fn capped_softmax_grads(logits: &mut [f32], log_sum: f32, w: f32, cap: f32) {
        let inverse = 1.0 / cap;
        for logit in logits {
            let t = *logit * inverse;
            *logit = -w * exp::<FMA>(*logit - log_sum) * fma::<FMA>(-t, t, 1.0);
        }
    }

    fn scale_into(out: &mut [f32], values: &[f32], scale: f32, accumulate: bool) {
        for (out, value) in out.iter_mut().zip(values) {
            let before = if accumulate { *out } else { 0.0 };
            *out = fma::<FMA>(*value, scale, before);
        }
    }
}
