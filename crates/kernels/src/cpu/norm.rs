//! Root-mean-square normalisation of rows, alone and after a sum.
//!
//! y = x · r · g with r = (mean(x²) + ε)^−½ (Zhang and Sennrich, arXiv 1910.07467). The backward pass keeps r alone:
//! dx = r·(g∘dy) − x·r³·⟨g∘dy, x⟩/H, and dg = Σ dy∘x·r over rows.

use super::add::sum as sum_of;
use super::parallel::{Shared, rows_per_piece, tasks};
use super::simd::{add_assign, fma, simd, sum1, sum3};
use super::{Dense, GradBuffer};
use crate::error::Result;
use crate::options::NormOptions;
use candle_core::Tensor;
use std::ops::Range;

/// The factors g (H): the weight, with Gemma's offset added.
pub(crate) fn scale(op: &'static str, weight: &Tensor, options: NormOptions) -> Result<Vec<f32>> {
    let weight = Dense::new(op, "weight", weight)?;
    let offset = if options.unit_offset { 1.0 } else { 0.0 };
    let scale = weight.read().iter().map(|g| g + offset).collect();
    Ok(scale)
}

/// Normalised rows, and r of each.
pub(crate) struct Normed {
    /// (rows, H).
    pub(crate) values: Vec<f32>,
    /// (rows).
    pub(crate) inverse: Vec<f32>,
}

/// Normalises `count` rows of `input`.
pub(crate) fn rms_norm(input: &[f32], count: usize, scale: &[f32], eps: f32) -> Normed {
    let width = scale.len();
    let mut values = vec![0.0; count * width];
    let mut inverse = vec![0.0; count];
    let (out, roots) = (Shared::new(&mut values), Shared::new(&mut inverse));
    let piece = rows_per_piece(width);
    tasks(count.div_ceil(piece), count * width, |index| {
        let first = index * piece;
        let n = piece.min(count - first);
        let x = &input[first * width..(first + n) * width];
        // SAFETY: rows of this piece belong to this task alone.
        let (out, roots) = unsafe { (out.slice(first * width, n * width), roots.slice(first, n)) };
        normalise(x, scale, out, roots, eps);
    });
    Normed { values, inverse }
}

/// `left` + `right`, `count` rows, and the sum normalised, in one sweep.
pub(crate) fn add_rms_norm([left, right]: [&[f32]; 2], count: usize, scale: &[f32], eps: f32) -> (Vec<f32>, Normed) {
    let width = scale.len();
    let mut sum = vec![0.0; count * width];
    let mut values = vec![0.0; count * width];
    let mut inverse = vec![0.0; count];
    let totals = Shared::new(&mut sum);
    let (out, roots) = (Shared::new(&mut values), Shared::new(&mut inverse));
    let piece = rows_per_piece(width);
    tasks(count.div_ceil(piece), 2 * count * width, |index| {
        let first = index * piece;
        let n = piece.min(count - first);
        let range = first * width..(first + n) * width;
        // SAFETY: rows of this piece belong to this task alone.
        let (totals, out, roots) = unsafe {
            (totals.slice(range.start, range.len()), out.slice(range.start, range.len()), roots.slice(first, n))
        };
        sum_of(&left[range.clone()], &right[range], totals);
        normalise(totals, scale, out, roots, eps);
    });
    (sum, Normed { values, inverse })
}

/// A norm's input, g, and r of each row: all that its backward pass reads.
pub(crate) struct SavedNorm {
    pub(crate) input: Dense,
    pub(crate) scale: Vec<f32>,
    pub(crate) inverse: Vec<f32>,
}

/// Destination of dx: `values`, overwritten with dx, plus `base` if there is one, or added to if `add`.
pub(crate) struct InputGrad<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) base: Option<&'a [f32]>,
    pub(crate) add: bool,
}

impl SavedNorm {
    /// Runs `task` on pieces of rows, given by piece number and rows.
    fn pieces(&self, task: impl Fn(usize, Range<usize>) + Send + Sync) {
        let (width, count) = (self.scale.len(), self.inverse.len());
        let piece = rows_per_piece(width);
        tasks(count.div_ceil(piece), 4 * count * width, |index| {
            task(index, index * piece..((index + 1) * piece).min(count));
        });
    }

    /// The norm's result, recomputed.
    pub(crate) fn normed(&self) -> Vec<f32> {
        let width = self.scale.len();
        let input = self.input.read();
        let mut normed = vec![0.0; input.len()];
        let out = Shared::new(&mut normed);
        self.pieces(|_, rows| {
            let range = rows.start * width..rows.end * width;
            // SAFETY: rows of this piece belong to this task alone.
            let out = unsafe { out.slice(range.start, range.len()) };
            rescale(&input[range], &self.scale, &self.inverse[rows], out);
        });
        normed
    }

    /// Writes dx and returns partial sums of dg if wanted, (pieces, H); the pieces do not depend on the threads.
    pub(crate) fn backward(&self, dy: &[f32], dx: Option<InputGrad<'_>>, wants_scale: bool) -> Vec<f32> {
        let input = self.input.read();
        let (width, count) = (self.scale.len(), self.inverse.len());
        let mut partial = vec![0.0; if wants_scale { count.div_ceil(rows_per_piece(width)) * width } else { 0 }];
        let partials = Shared::new(&mut partial);
        let dx = dx.map(|dx| (Shared::new(dx.values), dx.base, dx.add));
        self.pieces(|index, rows| {
            let range = rows.start * width..rows.end * width;
            let (x, dy) = (&input[range.clone()], &dy[range.clone()]);
            let roots = &self.inverse[rows];
            if let Some((dx, base, add)) = dx {
                // SAFETY: rows of this piece belong to this task alone.
                let dx = unsafe { dx.slice(range.start, range.len()) };
                if let Some(base) = base {
                    dx.copy_from_slice(&base[range]);
                }
                input_gradient(x, dy, &self.scale, roots, dx, add || base.is_some());
            }
            if wants_scale {
                // SAFETY: this piece's row of partial sums belongs to this task alone.
                let dg = unsafe { partials.slice(index * width, width) };
                scale_gradient(x, dy, roots, dg);
            }
        });
        partial
    }
}

/// Adds rows of `width` elements in order.
pub(crate) fn add_rows(rows: &[f32], width: usize, buffer: &mut GradBuffer) {
    buffer.zero_unless_accumulating();
    for row in rows.chunks_exact(width.max(1)) {
        add_assign(&mut buffer.values, row);
    }
}

simd! {
    pub(crate) fn normalise(x: &[f32], g: &[f32], out: &mut [f32], roots: &mut [f32], eps: f32) {
        let width = g.len();
        if width == 0 {
            return;
        }
        for ((x, out), root) in
            x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(roots)
        {
            let square = sum1(x, |sum, x| fma::<FMA>(x, x, sum));
            let r = 1.0 / (square / width as f32 + eps).sqrt();
            *root = r;
            for i in 0..width {
                out[i] = x[i] * r * g[i];
            }
        }
    }

    fn rescale(x: &[f32], g: &[f32], roots: &[f32], out: &mut [f32]) {
        let width = g.len();
        if width == 0 {
            return;
        }
        for ((x, out), r) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(roots) {
            for i in 0..width {
                out[i] = x[i] * r * g[i];
            }
        }
    }

    fn input_gradient(
        x: &[f32],
        dy: &[f32],
        g: &[f32],
        roots: &[f32],
        dx: &mut [f32],
        add: bool,
    ) {
        let width = g.len();
        if width == 0 {
            return;
        }
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
        for (((x, dy), dx), &r) in rows.zip(dx.chunks_exact_mut(width)).zip(roots) {
            let inner = sum3(dy, g, x, |sum, dy, g, x| fma::<FMA>(dy * g, x, sum));
            let through_root = -inner * r * r * r / width as f32;
            if add {
                for i in 0..width {
                    dx[i] += fma::<FMA>(x[i], through_root, r * (g[i] * dy[i]));
                }
            } else {
                for i in 0..width {
                    dx[i] = fma::<FMA>(x[i], through_root, r * (g[i] * dy[i]));
                }
            }
        }
    }

    fn scale_gradient(x: &[f32], dy: &[f32], roots: &[f32], dg: &mut [f32]) {
        let width = dg.len();
        if width == 0 {
            return;
        }
        for ((x, dy), &r) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(roots) {
            for i in 0..width {
                dg[i] = fma::<FMA>(x[i] * r, dy[i], dg[i]);
            }
        }
    }
}
