//! The residual sum.

use crate::dense::{Dense, same_shape};
use crate::device::{self, engine};
use crate::error::Result;
use crate::graph::record;
use crate::parallel::{Shared, rows_per_piece, tasks};
use crate::simd::simd;
use candle_core::Tensor;

const OP: &str = "add";

/// `a + b`, both of one shape. Its gradient is handed on without a copy.
///
/// # Errors
///
/// [`crate::KernelError::Shape`], [`crate::KernelError::Type`], [`crate::KernelError::Device`] for unfit tensors.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_shape(OP, "b", a.dims(), b)?;
    if let Some(engine) = engine(a) {
        return device::add(&engine, OP, a, b);
    }
    let (left, right) = (Dense::new(OP, "a", a)?, Dense::new(OP, "b", b)?);
    let (left, right) = (left.read(), right.read());
    let mut values = vec![0.0; left.len()];
    let out = Shared::new(&mut values);
    let piece = rows_per_piece(1);
    tasks(left.len().div_ceil(piece), left.len(), |index| {
        let range = index * piece..((index + 1) * piece).min(left.len());
        // SAFETY: this range belongs to this task alone.
        let out = unsafe { out.slice(range.start, range.len()) };
        sum(&left[range.clone()], &right[range], out);
    });
    record(OP, &[a, b], values, a.dims(), |gradient, _, out| {
        out.pass(0, gradient)?;
        out.pass(1, gradient)
    })
}

simd! {
    pub(crate) fn sum(a: &[f32], b: &[f32], out: &mut [f32]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = a + b;
        }
    }
}
