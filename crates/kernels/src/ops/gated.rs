//! Gated activations: φ(gate) ∘ up (Shazeer, arXiv 2002.05202), φ also σ alone, and the clamped form of gpt-oss.

use super::experts::refuse_device;
use crate::autograd::{FreshGrad, push_on, record, register_recompute, single, tracks};
use crate::checks::same_shape;
use crate::cpu::gated::Gated;
use crate::cpu::{Dense, Recompute};
use crate::device::gated::{backward, forward};
use crate::device::{Engine, Operand, Role};
use crate::error::{KernelError, Result};
use crate::options::Clamp;
use candle_core::Tensor;
use std::sync::Arc;

/// x·σ(x) of `gate` times `up`; any shape, both alike.
///
/// # Errors
///
/// [`crate::KernelError::Shape`], [`crate::KernelError::Type`], [`crate::KernelError::Device`] for
/// unfit tensors.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gated("swiglu", gate, up, Gated::Swiglu)
}

/// σ(gate) times `x`; any shape, both alike. On the CPU alone.
///
/// # Errors
///
/// As for [`swiglu`].
pub fn sigmoid_gate(gate: &Tensor, x: &Tensor) -> Result<Tensor> {
    const OP: &str = "sigmoid_gate";
    same_shape(OP, "x", gate.dims(), x)?;
    refuse_device(OP, "gate", gate)?;
    on_cpu(OP, gate, x, Gated::Sigmoid)
}

/// GELU of `gate`, in its tanh form, times `up`; any shape, both alike.
///
/// # Errors
///
/// As for [`swiglu`].
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gated("geglu", gate, up, Gated::Geglu)
}

/// (u + 1) · g · σ(α·g) of `gate` and `up`, both within the limits of `clamp`; any shape, both alike. On the CPU alone.
///
/// # Errors
///
/// As for [`swiglu`]; [`KernelError::Option`] unless α is finite and the limit above 0; [`KernelError::Device`] on a device.
pub fn clamped_swiglu(gate: &Tensor, up: &Tensor, clamp: Clamp) -> Result<Tensor> {
    const OP: &str = "clamped_swiglu";
    if !(clamp.alpha.is_finite() && clamp.limit > 0.0) {
        let got = format!("{clamp:?}");
        return Err(KernelError::Option {
            op: OP,
            option: "clamp",
            expected: "a finite alpha and a limit above 0",
            got,
        });
    }
    if Engine::of(gate).is_some() {
        let got = "the kernels of a GPU, which it does not have".to_owned();
        return Err(KernelError::Device { op: OP, argument: "gate", got });
    }
    gated(OP, gate, up, Gated::Clamped(clamp))
}

fn gated(op: &'static str, gate: &Tensor, up: &Tensor, loops: Gated) -> Result<Tensor> {
    same_shape(op, "up", gate.dims(), up)?;
    match Engine::of(gate) {
        None => on_cpu(op, gate, up, loops),
        Some(engine) => on_device(&engine, op, gate, up),
    }
}

fn on_cpu(op: &'static str, gate: &Tensor, up: &Tensor, loops: Gated) -> Result<Tensor> {
    let inputs = Arc::new([Dense::new(op, "gate", gate)?, Dense::new(op, "up", up)?]);
    let run = move |[gate, up]: &[Dense; 2]| loops.forward(&gate.read(), &up.read());
    let values = run(&inputs);
    let saved = Arc::clone(&inputs);
    let result = record(op, &[gate, up], values, gate.dims(), move |dy, _, sink| {
        let [gate, up] = saved.each_ref().map(Dense::read);
        let mut grads = [0, 1].map(|index| FreshGrad::open(sink, index, gate.len()));
        loops.backward([&gate, &up], dy, grads.each_mut().map(|grad| &mut grad.fresh[..]));
        for (index, grad) in grads.into_iter().enumerate() {
            grad.close(index, sink)?;
        }
        Ok(())
    })?;
    register_recompute(&result, || Recompute::new(move || run(&inputs)));
    Ok(result)
}

fn on_device(engine: &Engine, op: &'static str, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let tracked = tracks(op, &[gate, up])?;
    let saved = [Operand::first(engine, op, "gate", gate)?, Operand::new(engine, op, "up", up, gate.dtype())?];
    let out = engine.allocate(gate.dtype(), gate.dims(), Role::leaf_if(tracked))?;
    forward(engine, op, &saved, &out)?;
    let own = engine.clone();
    push_on(engine, &[gate, up], &[&out], move |gradients, sink| {
        let [d_gate, d_up] = backward(&own, op, &saved, single(gradients, op)?)?;
        sink.give(0, d_gate)?;
        sink.give(1, d_up)
    })?;
    Ok(out)
}
