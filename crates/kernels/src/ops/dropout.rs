//! Dropout (Srivastava and others, JMLR 15, 2014) by a mask that is a function of seed, stream and index.

use crate::autograd::{push_on, record, single, tracks};
use crate::cpu::Dense;
use crate::device::dropout::apply;
use crate::device::{Engine, Operand, Role};
use crate::error::{KernelError, Result};
use crate::options::DropoutMask;
use candle_core::Tensor;

const OP: &str = "dropout";

/// `x`, any shape, with a share of its elements zeroed and the others scaled up by 1 / (1 − share).
///
/// # Errors
///
/// [`KernelError::Option`] for a share outside [0, 1); [`KernelError::Type`], [`KernelError::Device`] for an unfit
/// tensor.
pub fn dropout(x: &Tensor, mask: DropoutMask) -> Result<Tensor> {
    if !(0.0..1.0).contains(&mask.share) {
        let got = mask.share.to_string();
        return Err(KernelError::Option { op: OP, option: "share", expected: "from 0 to below 1", got });
    }
    match Engine::of(x) {
        None => on_cpu(x, mask),
        Some(engine) => on_device(&engine, x, mask),
    }
}

fn on_cpu(x: &Tensor, mask: DropoutMask) -> Result<Tensor> {
    let input = Dense::new(OP, "x", x)?;
    let factors = mask.factors(x.elem_count());
    let values = input.read().iter().zip(&factors).map(|(x, factor)| x * factor).collect();
    record(OP, &[x], values, x.dims(), move |gradient, _, sink| {
        sink.deliver(0, |buffer| {
            buffer.zero_unless_accumulating();
            for ((dx, dy), factor) in buffer.values.iter_mut().zip(gradient.iter()).zip(&factors) {
                *dx += dy * factor;
            }
        })
    })
}

fn on_device(engine: &Engine, x: &Tensor, mask: DropoutMask) -> Result<Tensor> {
    let tracked = tracks(OP, &[x])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let out = engine.allocate(x.dtype(), x.dims(), Role::leaf_if(tracked))?;
    apply(engine, input.tensor(), mask, &out)?;
    let own = engine.clone();
    push_on(engine, &[x], &[&out], move |gradients, sink| {
        let dy = single(gradients, OP)?;
        let dx = own.allocate(dy.dtype(), dy.dims(), Role::Constant)?;
        apply(&own, dy, mask, &dx)?;
        sink.give(0, dx)
    })?;
    Ok(out)
}
