//! The root of a backward pass with a given gradient.

use crate::dense::{Dense, same_shape};
use crate::device::{self, engine};
use crate::error::{KernelError, Result};
use crate::graph::record;
use candle_core::Tensor;

const OP: &str = "weighted_sum";

/// Σ weightsᵢ·xᵢ as a scalar, added in float64; `weights` has the shape of `x` and is constant.
///
/// Its backward pass hands `weights` to `x`: with w = ∂L/∂x it starts the rest of L's backward
/// pass, as for the log-probabilities of a preference loss or the output of a recomputed block.
///
/// # Errors
///
/// [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`] for unfit tensors;
/// [`KernelError::NotConstant`] if `weights` require a gradient.
pub fn weighted_sum(x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    same_shape(OP, "weights", x.dims(), weights)?;
    if weights.track_op() {
        return Err(KernelError::NotConstant { op: OP, argument: "weights" });
    }
    if let Some(engine) = engine(x) {
        return device::weighted_sum(&engine, x, weights);
    }
    let (input, factors) = (Dense::new(OP, "x", x)?, Dense::new(OP, "weights", weights)?);
    let sum: f64 = {
        let (input, factors) = (input.read(), factors.read());
        input.iter().zip(factors.iter()).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
    };
    record(OP, &[x], vec![sum as f32], &[], move |gradient, _, out| {
        let scale = gradient[0];
        out.deliver(0, |buffer| {
            buffer.zero_unless_accumulating();
            for (slope, weight) in buffer.values.iter_mut().zip(factors.read().iter()) {
                *slope += weight * scale;
            }
        })
    })
}
