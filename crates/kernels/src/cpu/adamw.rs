//! AdamW's update of one parameter, and the sums of squares that clipping needs.

use super::parallel::{Shared, tasks};
use super::simd::{dot, fma, simd};
use super::zero_blocks::{BLOCK, all_zero};
use crate::options::UpdateFactors;

/// Elements of one piece of work; also the granularity of the norm's partial sums.
const PIECE: usize = 1 << 14;

/// A parameter's gradient and moments, each as long as the parameter.
pub(crate) struct Update<'a> {
    pub(crate) factors: UpdateFactors,
    pub(crate) gradient: &'a [f32],
    pub(crate) first: Shared,
    pub(crate) second: Shared,
}

impl Update<'_> {
    /// Updates the parameter `values` and its moments.
    ///
    /// # Safety
    ///
    /// Nobody else touches the moments meanwhile, whose slices are still borrowed.
    pub(crate) unsafe fn run(&self, values: &mut [f32]) {
        let len = values.len();
        let parameter = Shared::new(values);
        tasks(len.div_ceil(PIECE), 4 * len, |index| {
            let start = index * PIECE;
            let n = PIECE.min(len - start);
            // SAFETY: this piece belongs to this task alone; the moments are the caller's promise.
            let (parameter, first, second) =
                unsafe { (parameter.slice(start, n), self.first.slice(start, n), self.second.slice(start, n)) };
            let gradient = &self.gradient[start..start + n];
            for start in (0..n).step_by(BLOCK) {
                let block = start..n.min(start + BLOCK);
                let (gradient, parameter) = (&gradient[block.clone()], &mut parameter[block.clone()]);
                let (first, second) = (&mut first[block.clone()], &mut second[block]);
                if all_zero(second) && all_zero(first) && all_zero(gradient) {
                    decay(self.factors, parameter);
                } else {
                    update(self.factors, gradient, parameter, first, second);
                }
            }
        });
    }
}

/// Σ x² in float64 over fixed pieces, so that it does not depend on the threads.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    let pieces = values.len().div_ceil(PIECE);
    let mut partial = vec![0f32; pieces];
    let shared = Shared::new(&mut partial);
    tasks(pieces, values.len(), |index| {
        let piece = &values[index * PIECE..((index + 1) * PIECE).min(values.len())];
        // SAFETY: this element belongs to this task alone.
        let out = unsafe { shared.slice(index, 1) };
        out[0] = dot(piece, piece);
    });
    partial.into_iter().map(f64::from).sum()
}

/// [`update`] where gradient and moments are zero. It does not write them, see [`super::zero_blocks`].
fn decay(factors: UpdateFactors, parameter: &mut [f32]) {
    if factors.keep != 1.0 {
        parameter.iter_mut().for_each(|value| *value *= factors.keep);
    }
}

simd! {
    fn update(
        factors: UpdateFactors,
        gradient: &[f32],
        parameter: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let len = gradient.len();
        let (parameter, first, second) = (&mut parameter[..len], &mut first[..len], &mut second[..len]);
        for i in 0..len {
            let g = gradient[i] * factors.clip;
            let m = fma::<FMA>(first[i], factors.beta1, factors.one_minus_beta1 * g);
            let v = fma::<FMA>(second[i], factors.beta2, factors.one_minus_beta2 * g * g);
            first[i] = m;
            second[i] = v;
            let denominator = fma::<FMA>(v.sqrt(), factors.second_correction, factors.eps);
            parameter[i] = fma::<FMA>(parameter[i], factors.keep, -(factors.rate * m / denominator));
        }
    }
}
