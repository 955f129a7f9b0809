//! The residual sum.

use crate::autograd::{push_on, record, single, tracks};
use crate::checks::same_shape;
use crate::cpu::{self, Dense};
use crate::device::{Engine, Operand, Role, sum_into};
use crate::error::Result;
use candle_core::Tensor;

const OP: &str = "add";

/// `a + b`, both of one shape and dtype. Its gradient is passed on without a copy.
///
/// # Errors
///
/// [`crate::KernelError::Shape`], [`crate::KernelError::Type`], [`crate::KernelError::Device`] for unfit tensors.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_shape(OP, "b", a.dims(), b)?;
    match Engine::of(a) {
        None => on_cpu(a, b),
        Some(engine) => on_device(&engine, a, b),
    }
}

fn on_cpu(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (left, right) = (Dense::new(OP, "a", a)?, Dense::new(OP, "b", b)?);
    let values = cpu::add::add(&left.read(), &right.read());
    record(OP, &[a, b], values, a.dims(), |gradient, _, sink| {
        sink.pass(0, gradient)?;
        sink.pass(1, gradient)
    })
}

fn on_device(engine: &Engine, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let tracked = tracks(OP, &[a, b])?;
    let left = Operand::first(engine, OP, "a", a)?;
    let right = Operand::new(engine, OP, "b", b, a.dtype())?;
    let out = engine.allocate(a.dtype(), a.dims(), Role::leaf_if(tracked))?;
    sum_into(engine, left.tensor(), right.tensor(), &out)?;
    push_on(engine, &[a, b], &[&out], |gradients, sink| {
        let gradient = single(gradients, OP)?;
        sink.pass(0, gradient)?;
        sink.pass(1, gradient)
    })?;
    Ok(out)
}
