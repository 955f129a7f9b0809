//! The root of a backward pass with a given gradient.

use crate::autograd::{push_on, record, single, tracks};
use crate::checks::same_shape;
use crate::cpu::Dense;
use crate::device::weighted_sum::{backward, forward};
use crate::device::{Engine, Operand, Role};
use crate::error::{KernelError, Result};
use candle_core::{DType, Tensor};

const OP: &str = "weighted_sum";

/// Σ weightsᵢ·xᵢ as a float32 scalar, added in float64; `weights` has the shape and dtype of `x` and is constant.
///
/// The gradient of `x` is `weights`: with w = ∂L/∂x this starts the rest of L's backward
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
    match Engine::of(x) {
        None => on_cpu(x, weights),
        Some(engine) => on_device(&engine, x, weights),
    }
}

fn on_cpu(x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let (input, weights) = (Dense::new(OP, "x", x)?, Dense::new(OP, "weights", weights)?);
    let sum: f64 = {
        let (input, weights) = (input.read(), weights.read());
        input.iter().zip(weights.iter()).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
    };
    record(OP, &[x], vec![sum as f32], &[], move |gradient, _, sink| {
        let dy = gradient[0];
        sink.deliver(0, |buffer| {
            buffer.zero_unless_accumulating();
            for (dx, weight) in buffer.values.iter_mut().zip(weights.read().iter()) {
                *dx += weight * dy;
            }
        })
    })
}

fn on_device(engine: &Engine, x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let tracked = tracks(OP, &[x])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let weights = Operand::new(engine, OP, "weights", weights, x.dtype())?;
    let out = engine.allocate(DType::F32, &[], Role::leaf_if(tracked))?;
    forward(engine, &input, &weights, &out)?;
    let (own, dtype, shape) = (engine.clone(), x.dtype(), x.dims().to_vec());
    push_on(engine, &[x], &[&out], move |gradients, sink| {
        let dy = single(gradients, OP)?;
        let dx = own.allocate(dtype, &shape, Role::Constant)?;
        backward(&own, &weights, dy, &dx)?;
        sink.give(0, dx)
    })?;
    Ok(out)
}
