//! Gradients of hidden states and head weight, recomputing logits tile by tile.
//!
//! Rows with a gradient are packed first. Chunk by chunk of them, a task owns one group of tiles:
//! its rows of the weight's gradient are its own, its share of the hidden states' gradient is
//! added up in the order of the groups afterwards.

use super::forward::soft_cap;
use super::{Head, TILE};
use crate::matmul::{Target, View, multiply};
use crate::outlet::Buffer;
use crate::parallel::{Shared, rows_per_piece, tasks};
use crate::simd::{add_assign, exp, fma, simd};

/// Most groups of tiles: each keeps a chunk's share of the hidden states' gradient.
const GROUPS: usize = 16;

pub(super) struct Pass<'a> {
    pub(super) head: Head,
    pub(super) hidden: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) targets: &'a [u32],
    pub(super) log_sums: &'a [f32],
    pub(super) gradient: &'a [f32],
}

/// Writes w·∂ℓ/∂h of every row, or adds it.
pub(super) fn along(directions: &[f32], gradient: &[f32], d_hidden: &mut Buffer) {
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

impl Pass<'_> {
    /// Writes the gradients of hidden states and head weight, or adds to them.
    pub(super) fn run(&self, mut d_hidden: Option<&mut Buffer>, d_weight: Option<&mut Buffer>) {
        let Head { width, vocabulary, chunk, .. } = self.head;
        let rows: Vec<usize> = (0..self.targets.len()).filter(|&row| self.gradient[row] != 0.0).collect();
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
        let tiles = self.head.tiles();
        let groups = tiles.clamp(1, GROUPS);
        let mut packed = vec![0.0; chunk.min(rows.len()) * width];
        let share = if d_hidden.is_some() { packed.len() } else { 0 };
        let mut shares = vec![0.0; groups * share];
        for rows in rows.chunks(chunk) {
            let count = rows.len();
            for (out, &row) in packed.chunks_exact_mut(width.max(1)).zip(rows) {
                out.copy_from_slice(&self.hidden[row * width..(row + 1) * width]);
            }
            let states = View::new(&packed, count, width);
            let shared = Shared::new(&mut shares);
            tasks(groups, count * vocabulary * width / 4, |group| {
                let mut logits = vec![0.0; count * TILE.min(vocabulary)];
                let tiles = group * tiles / groups..(group + 1) * tiles / groups;
                for tile in tiles.clone() {
                    let range = self.head.tile(tile);
                    let columns = range.len();
                    let slopes = &mut logits[..count * columns];
                    let entries = View::new(&self.weight[range.start * width..], columns, width);
                    multiply(Target::new(slopes, count, columns), states, entries.t(), 1.0, 1);
                    self.slopes(rows, range.start, columns, slopes);
                    let slopes = View::new(slopes, count, columns);
                    if let Some(out) = weight_out {
                        // SAFETY: the entries of this tile belong to this task alone.
                        let out = unsafe { out.slice(range.start * width, columns * width) };
                        let target = Target::new(out, columns, width).accumulate(accumulate);
                        multiply(target, slopes.t(), states, 1.0, 1);
                    }
                    if share > 0 {
                        // SAFETY: this share belongs to this task alone.
                        let out = unsafe { shared.slice(group * share, count * width) };
                        let target = Target::new(out, count, width).accumulate(tile != tiles.start);
                        multiply(target, slopes, entries, 1.0, 1);
                    }
                }
            });
            accumulate = true;
            if let Some(out) = &mut d_hidden {
                for (index, &row) in rows.iter().enumerate() {
                    let out = &mut out.values[row * width..(row + 1) * width];
                    for group in 0..groups {
                        add_assign(out, &shares[group * share + index * width..][..width]);
                    }
                }
            }
        }
    }

    /// Turns a tile's logits into dL/d logits = w·(onehot − softmax), through the cap.
    fn slopes(&self, rows: &[usize], first: usize, columns: usize, logits: &mut [f32]) {
        if let Some(cap) = self.head.soft_cap {
            soft_cap(logits, cap);
        }
        for (&row, logits) in rows.iter().zip(logits.chunks_exact_mut(columns)) {
            let w = self.gradient[row];
            let target = (self.targets[row] as usize).checked_sub(first).filter(|&t| t < columns);
            let target_logit = target.map(|target| logits[target]);
            match self.head.soft_cap {
                None => softmax_slopes(logits, self.log_sums[row], w),
                Some(cap) => capped_softmax_slopes(logits, self.log_sums[row], w, cap),
            }
            if let (Some(target), Some(logit)) = (target, target_logit) {
                let through_cap = self.head.soft_cap.map_or(1.0, |cap| 1.0 - (logit / cap).powi(2));
                logits[target] += w * through_cap;
            }
        }
    }
}

simd! {
    fn softmax_slopes(logits: &mut [f32], log_sum: f32, w: f32) {
        for logit in logits {
            *logit = -w * exp::<FMA>(*logit - log_sum);
        }
    }

    fn capped_softmax_slopes(logits: &mut [f32], log_sum: f32, w: f32, cap: f32) {
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
