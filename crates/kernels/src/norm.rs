//! Root-mean-square normalisation, alone and after a residual sum.
//!
//! y = x · r · g with r = (mean(x²) + ε)^−½ (Zhang and Sennrich, arXiv 1910.07467). The backward
//! pass keeps r alone: dx = r·(g∘dy) − x·r³·⟨g∘dy, x⟩/H, and dg = Σ dy∘x·r over rows.

use crate::add::sum as sum_of;
use crate::dense::{Dense, Remake, rows, same_shape};
use crate::device::{self, engine};
use crate::error::{KernelError, Result};
use crate::graph::{Incoming, record};
use crate::outlet::{Buffer, Outlet};
use crate::parallel::{Shared, rows_per_piece, tasks};
use crate::simd::{add_assign, fma, simd, sum1, sum3};
use crate::tape;
use candle_core::Tensor;
use std::ops::Range;
use std::sync::Arc;

const OP: &str = "rms_norm";

/// How to normalise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormOptions {
    /// ε, added to the mean square.
    pub eps: f64,
    /// Multiply by 1 + weight instead of weight, as Gemma does.
    pub unit_offset: bool,
}

impl From<f64> for NormOptions {
    fn from(eps: f64) -> Self {
        Self { eps, unit_offset: false }
    }
}

/// What [`add_rms_norm`] returns.
#[derive(Clone, Debug)]
pub struct AddRmsNorm {
    /// x + residual, the residual stream.
    pub sum: Tensor,
    /// The sum, normalised.
    pub normed: Tensor,
}

/// Normalises the last dimension: `x` (…, H), `weight` (H), to (…, H). An ε alone serves as
/// options.
///
/// # Errors
///
/// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`]
/// for unfit tensors, [`KernelError::Option`] for an ε that is not positive.
pub fn rms_norm(x: &Tensor, weight: &Tensor, options: impl Into<NormOptions>) -> Result<Tensor> {
    let options = options.into();
    let (count, width) = check(x, weight, options)?;
    if let Some(engine) = engine(x) {
        return device::rms_norm(&engine, x, weight, options);
    }
    let input = Dense::new(OP, "x", x)?;
    let scale = scale(weight, options)?;
    let mut normed = vec![0.0; count * width];
    let mut inverse = vec![0.0; count];
    {
        let input = input.read();
        let (out, roots) = (Shared::new(&mut normed), Shared::new(&mut inverse));
        let piece = rows_per_piece(width);
        tasks(count.div_ceil(piece), count * width, |index| {
            let first = index * piece;
            let n = piece.min(count - first);
            let x = &input[first * width..(first + n) * width];
            // SAFETY: rows of this piece belong to this task alone.
            let (out, roots) = unsafe { (out.slice(first * width, n * width), roots.slice(first, n)) };
            normalise(x, &scale, out, roots, options.eps as f32);
        });
    }
    record_norm(x, weight, normed, inverse, scale)
}

/// `sum = x + residual` and its norm in one sweep; both (…, H).
///
/// # Errors
///
/// As for [`rms_norm`].
pub fn add_rms_norm(
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    options: impl Into<NormOptions>,
) -> Result<AddRmsNorm> {
    let options = options.into();
    let (count, width) = check(x, weight, options)?;
    same_shape(OP, "residual", x.dims(), residual)?;
    if let Some(engine) = engine(x) {
        return device::add_rms_norm(&engine, x, residual, weight, options);
    }
    let (left, right) = (Dense::new(OP, "x", x)?, Dense::new(OP, "residual", residual)?);
    let scale = scale(weight, options)?;
    let mut sum = vec![0.0; count * width];
    let mut normed = vec![0.0; count * width];
    let mut inverse = vec![0.0; count];
    {
        let (left, right) = (left.read(), right.read());
        let totals = Shared::new(&mut sum);
        let (out, roots) = (Shared::new(&mut normed), Shared::new(&mut inverse));
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
            normalise(totals, &scale, out, roots, options.eps as f32);
        });
    }
    if tape::is_recording() && [x, residual, weight].iter().any(|tensor| tensor.track_op()) {
        return record_together([x, residual, weight], sum, normed, inverse, scale);
    }
    let sum = record("add_rms_norm", &[x, residual], sum, x.dims(), |gradient, _, out| {
        out.pass(0, gradient)?;
        out.pass(1, gradient)
    })?;
    let normed = record_norm(&sum, weight, normed, inverse, scale)?;
    Ok(AddRmsNorm { sum, normed })
}

/// Sum and norm as one node of a tape: the gradient of the sum meets the norm's on the way back.
fn record_together(
    [x, residual, weight]: [&Tensor; 3],
    sum: Vec<f32>,
    normed: Vec<f32>,
    inverse: Vec<f32>,
    scale: Vec<f32>,
) -> Result<AddRmsNorm> {
    let [sum, normed] = [sum, normed].map(|values| tape::leaf(values, x.dims()));
    let kept = Arc::new(Kept { input: Dense::new(OP, "sum", &sum)?, scale, inverse });
    let remake = Arc::clone(&kept);
    let backward = move |[d_sum, d_normed]: [Option<&[f32]>; 2], out: &mut Outlet<'_>| {
        let input = kept.input.read();
        let mut total = out.blank(input.len());
        match d_normed {
            None => total.copy_from_slice(d_sum.unwrap_or(&[])),
            Some(dy) => {
                let wants = [out.wants(0) || out.wants(1), out.wants(2)];
                let dx = wants[0].then_some(Slope { values: &mut total, base: d_sum, add: false });
                let partial = kept.backward(&input, dy, dx, wants[1]);
                out.deliver(2, |buffer| add_rows(&partial, kept.scale.len(), buffer))?;
            }
        }
        let total = Arc::new(total);
        out.pass(0, &Incoming::Shared(&total))?;
        out.pass(1, &Incoming::Shared(&total))
    };
    tape::push_pair(&[x, residual, weight], [&sum, &normed], Box::new(backward))?;
    tape::offer_remake(&normed, || Remake::new(move || remake.normed()));
    Ok(AddRmsNorm { sum, normed })
}

fn check(x: &Tensor, weight: &Tensor, options: NormOptions) -> Result<(usize, usize)> {
    let (count, width) = rows(OP, "x", "(…, H)", x)?;
    same_shape(OP, "weight", &[width], weight)?;
    if options.eps.is_nan() || options.eps <= 0.0 {
        return Err(KernelError::Option { op: OP, option: "eps", expected: "above 0", got: options.eps.to_string() });
    }
    Ok((count, width))
}

/// The factors g, with Gemma's offset added.
pub(crate) fn scale(weight: &Tensor, options: NormOptions) -> Result<Vec<f32>> {
    let weight = Dense::new(OP, "weight", weight)?;
    let offset = if options.unit_offset { 1.0 } else { 0.0 };
    let scale = weight.read().iter().map(|g| g + offset).collect();
    Ok(scale)
}

fn record_norm(x: &Tensor, weight: &Tensor, normed: Vec<f32>, inverse: Vec<f32>, scale: Vec<f32>) -> Result<Tensor> {
    let kept = Arc::new(Kept { input: Dense::new(OP, "x", x)?, scale, inverse });
    let remake = Arc::clone(&kept);
    let normed = record(OP, &[x, weight], normed, x.dims(), move |dy, _, out| {
        let mut dx = out.open(0);
        let slope = dx.as_mut().map(|buffer| Slope { values: &mut buffer.values, base: None, add: buffer.accumulate });
        let partial = kept.backward(&kept.input.read(), dy, slope, out.wants(1));
        if let Some(buffer) = dx {
            out.close(0, buffer)?;
        }
        out.deliver(1, |buffer| add_rows(&partial, kept.scale.len(), buffer))
    })?;
    tape::offer_remake(&normed, || Remake::new(move || remake.normed()));
    Ok(normed)
}

/// What a norm's backward pass reads: its input, g, and r of each row.
struct Kept {
    input: Dense,
    scale: Vec<f32>,
    inverse: Vec<f32>,
}

/// Where dx goes: over `values`, onto `base` if there is one, onto `values` if `add`.
struct Slope<'a> {
    values: &'a mut [f32],
    base: Option<&'a [f32]>,
    add: bool,
}

impl Kept {
    /// Runs `task` on pieces of rows, given by their numbers.
    fn pieces(&self, task: impl Fn(usize, Range<usize>) + Send + Sync) {
        let (width, count) = (self.scale.len(), self.inverse.len());
        let piece = rows_per_piece(width);
        tasks(count.div_ceil(piece), 4 * count * width, |index| {
            task(index, index * piece..((index + 1) * piece).min(count));
        });
    }

    /// The norm's result once more.
    fn normed(&self) -> Vec<f32> {
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

    /// Writes dx and returns partial sums of dg if wanted: a row for each piece, and the pieces do not depend on the
    /// threads.
    fn backward(&self, input: &[f32], dy: &[f32], dx: Option<Slope<'_>>, wants_scale: bool) -> Vec<f32> {
        let (width, count) = (self.scale.len(), self.inverse.len());
        let mut partial = vec![0.0; if wants_scale { count.div_ceil(rows_per_piece(width)) * width } else { 0 }];
        let partials = Shared::new(&mut partial);
        let dx = dx.map(|slope| (Shared::new(slope.values), slope.base, slope.add));
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
fn add_rows(rows: &[f32], width: usize, buffer: &mut Buffer) {
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
            let back = -inner * r * r * r / width as f32;
            if add {
                for i in 0..width {
                    dx[i] += fma::<FMA>(x[i], back, r * (g[i] * dy[i]));
                }
            } else {
                for i in 0..width {
                    dx[i] = fma::<FMA>(x[i], back, r * (g[i] * dy[i]));
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
