//! Log-sum-exp, target logit and terminators' standing of every row, and where wanted the direction of its gradient.
//!
//! A task owns one chunk of rows by one group of tiles. Groups depend on the vocabulary alone, and
//! their partial sums join in order, so the result does not depend on the threads.
//!
//! With a frozen weight nothing of the backward pass but a factor depends on w: ∂ℓ/∂h = W_y − Σ_v p_v·W_v. The sum is
//! taken in the same sweep, rescaled whenever the running maximum rises as attention does with its values (Milakov and
//! Gimelshein, arXiv 1805.02867): two products in all where recomputing the logits takes three.

use super::{Head, TILE, TerminatorStanding};
use crate::matmul::{Target, View, multiply};
use crate::parallel::{Shared, tasks};
use crate::simd::{dot, exp, fma, max_lanes, simd, sum1, tanh};

pub(super) struct Output {
    pub(super) log_probs: Vec<f32>,
    pub(super) log_sums: Vec<f32>,
    pub(super) terminators: Vec<TerminatorStanding>,
    /// ∂ℓ/∂h, (M, H), if it was wanted.
    pub(super) directions: Option<Vec<f32>>,
}

/// Most groups of tiles: more would feed more threads and keep more partial sums.
const GROUPS: usize = 16;

/// Floats a task leaves for each row: maximum, sum of e^(logit − maximum), tokens above the
/// likeliest terminator.
const PARTS: usize = 3;

pub(super) fn forward(
    head: Head,
    hidden: &[f32],
    weight: &[f32],
    targets: &[u32],
    terminators: &[u32],
    wants_directions: bool,
) -> Output {
    let rows = targets.len();
    let Head { width, vocabulary, chunk, .. } = head;
    let tiles = head.tiles();
    let groups = tiles.clamp(1, GROUPS);
    let chunks = rows.div_ceil(chunk);
    let terminator_logits = terminator_logits(head, hidden, weight, rows, terminators);
    let mut target_logits = vec![0.0; rows];
    let mut parts = vec![0.0; groups * rows * PARTS];
    // Sums of p·W are kept for one chunk at a time: a group's share is as large as the chunk's hidden states.
    let share = if wants_directions { chunk.min(rows) * width } else { 0 };
    let mut shares = vec![0.0; groups * share];
    let mut directions = wants_directions.then(|| vec![0.0; rows * width]);
    let at_once = if wants_directions { 1 } else { chunks };
    for first_chunk in (0..chunks).step_by(at_once.max(1)) {
        let (out_targets, out_parts) = (Shared::new(&mut target_logits), Shared::new(&mut parts));
        let out_shares = Shared::new(&mut shares);
        let now = at_once.min(chunks - first_chunk);
        tasks(now * groups, now * chunk.min(rows) * vocabulary * width / 8, |index| {
            let (chunk_index, group) = (first_chunk + index / groups, index % groups);
            let first = chunk_index * chunk;
            let count = chunk.min(rows - first);
            let states = View::new(&hidden[first * width..], count, width);
            // SAFETY: this group's part of these rows belongs to this task alone.
            let parts = unsafe { out_parts.slice((group * rows + first) * PARTS, count * PARTS) };
            for part in parts.chunks_exact_mut(PARTS) {
                part.copy_from_slice(&[f32::NEG_INFINITY, 0.0, 0.0]);
            }
            let mut logits = vec![0.0; count * TILE.min(vocabulary)];
            let tiles = group * tiles / groups..(group + 1) * tiles / groups;
            for tile in tiles.clone() {
                let range = head.tile(tile);
                let columns = range.len();
                let logits = &mut logits[..count * columns];
                let entries = View::new(&weight[range.start * width..], columns, width);
                multiply(Target::new(logits, count, columns), states, entries.t(), 1.0, 1);
                if let Some(cap) = head.soft_cap {
                    soft_cap(logits, cap);
                }
                for (row, &target) in targets[first..first + count].iter().enumerate() {
                    if range.contains(&(target as usize)) {
                        // SAFETY: a target lies in one tile alone.
                        let out = unsafe { out_targets.slice(first + row, 1) };
                        out[0] = logits[row * columns + target as usize - range.start];
                    }
                }
                if !terminators.is_empty() {
                    for (row, part) in parts.chunks_exact_mut(PARTS).enumerate() {
                        let row_logits = &mut logits[row * columns..(row + 1) * columns];
                        let bar = best(&terminator_logits[(first + row) * terminators.len()..][..terminators.len()]);
                        part[2] += above(row_logits, bar) as f32;
                        for &terminator in terminators {
                            let terminator = terminator as usize;
                            if range.contains(&terminator) && row_logits[terminator - range.start] > bar {
                                part[2] -= 1.0;
                            }
                        }
                    }
                }
                if share == 0 {
                    fold_tile(logits, columns, parts);
                    continue;
                }
                // SAFETY: this share belongs to this task alone.
                let sums = unsafe { out_shares.slice(group * share, count * width) };
                fold_tile_with_sums(logits, columns, parts, sums, head.soft_cap.map_or(0.0, |cap| 1.0 / cap));
                let target = Target::new(sums, count, width).accumulate(tile != tiles.start);
                multiply(target, View::new(logits, count, columns), entries, 1.0, 1);
            }
        });
        if let Some(directions) = &mut directions {
            let first = first_chunk * chunk;
            let count = chunk.min(rows - first);
            let out = Shared::new(&mut directions[first * width..(first + count) * width]);
            tasks(count, count * groups * width, |row| {
                // SAFETY: a row belongs to one task alone.
                let out = unsafe { out.slice(row * width, width) };
                let at = |group: usize| (group * rows + first + row) * PARTS;
                let maximum = (0..groups).map(|group| parts[at(group)]).fold(f32::NEG_INFINITY, f32::max);
                let scales = |group: usize| (parts[at(group)] - maximum).exp();
                let sum: f32 = (0..groups).map(|group| parts[at(group) + 1] * scales(group)).sum();
                for group in 0..groups {
                    let sums = &shares[group * share + row * width..][..width];
                    add_scaled(out, sums, -scales(group) / sum);
                }
                let entry = &weight[targets[first + row] as usize * width..][..width];
                let through_cap = head.soft_cap.map_or(1.0, |cap| 1.0 - (target_logits[first + row] / cap).powi(2));
                add_scaled(out, entry, through_cap);
            });
        }
    }
    let mut log_probs = vec![0.0; rows];
    let mut log_sums = vec![0.0; rows];
    let mut standings = Vec::with_capacity(if terminators.is_empty() { 0 } else { rows });
    for row in 0..rows {
        let part = |group: usize| &parts[(group * rows + row) * PARTS..][..PARTS];
        let maximum = (0..groups).map(|group| part(group)[0]).fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 =
            (0..groups).map(|group| f64::from(part(group)[1]) * f64::from(part(group)[0] - maximum).exp()).sum();
        let log_sum = f64::from(maximum) + sum.ln();
        log_sums[row] = log_sum as f32;
        log_probs[row] = (f64::from(target_logits[row]) - log_sum) as f32;
        if !terminators.is_empty() {
            let logits = &terminator_logits[row * terminators.len()..][..terminators.len()];
            let top = f64::from(best(logits));
            let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - top).exp()).sum();
            standings.push(TerminatorStanding {
                log_prob: (top + total.ln() - log_sum) as f32,
                rank: (0..groups).map(|group| part(group)[2]).sum::<f32>() as u32,
            });
        }
    }
    Output { log_probs, log_sums, terminators: standings, directions }
}

/// Logits of the terminators, (M, terminators), capped.
fn terminator_logits(head: Head, hidden: &[f32], weight: &[f32], rows: usize, terminators: &[u32]) -> Vec<f32> {
    let width = head.width;
    let mut logits = Vec::with_capacity(rows * terminators.len());
    if terminators.is_empty() {
        return logits;
    }
    for row in 0..rows {
        for &terminator in terminators {
            let entry = &weight[terminator as usize * width..][..width];
            logits.push(dot(&hidden[row * width..(row + 1) * width], entry));
        }
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

    /// Takes a tile into the running maximum and sum of its rows.
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
    /// As `fold_tile`; the sums of earlier tiles' p·W follow the maximum, and the logits become what this tile's rows of
    /// W are to be weighted with: p, times the slope of the cap if there is one (`inverse_cap` 0 is none).
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
