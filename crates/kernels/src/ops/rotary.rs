//! Rotary position embedding (Su and others, arXiv 2104.09864).

use crate::autograd::{push_on, record, single, tracks};
use crate::checks::same_shape;
use crate::cpu::{self, Dense};
use crate::device::rotary::Rotation;
use crate::device::{Engine, Operand, Role};
use crate::error::{KernelError, Result};
use crate::options::RotaryPairs;
use candle_core::Tensor;

const OP: &str = "rotary";

/// Rotates the first R of D dimensions of every head: `x` (N, heads, D), `cos` and `sin` (N, R/2), float32,
/// to (N, heads, D). The other D − R pass through.
///
/// # Errors
///
/// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`]
/// for unfit tensors; [`KernelError::NotConstant`] if `cos` or `sin` require a gradient.
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor, pairs: RotaryPairs) -> Result<Tensor> {
    check(x, cos, sin)?;
    match Engine::of(x) {
        None => on_cpu(x, cos, sin, pairs),
        Some(engine) => on_device(&engine, x, cos, sin, pairs),
    }
}

fn check(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<()> {
    let &[tokens, _, width] = x.dims() else {
        let got = x.dims().to_vec();
        return Err(KernelError::Rank { op: OP, argument: "x", expected: "(N, heads, D)", got });
    };
    let &[angle_rows, half] = cos.dims() else {
        let got = cos.dims().to_vec();
        return Err(KernelError::Rank { op: OP, argument: "cos", expected: "(N, R/2)", got });
    };
    if angle_rows != tokens || 2 * half > width {
        return Err(KernelError::Shape {
            op: OP,
            argument: "cos",
            expected: format!("[{tokens}, at most {}]", width / 2),
            got: cos.dims().to_vec(),
        });
    }
    same_shape(OP, "sin", cos.dims(), sin)?;
    for (argument, tensor) in [("cos", cos), ("sin", sin)] {
        if tensor.track_op() {
            return Err(KernelError::NotConstant { op: OP, argument });
        }
    }
    Ok(())
}

fn on_cpu(x: &Tensor, cos: &Tensor, sin: &Tensor, pairs: RotaryPairs) -> Result<Tensor> {
    let (_, heads, width) = x.dims3()?;
    let input = Dense::new(OP, "x", x)?;
    let (cos, sin, half) = (Dense::new(OP, "cos", cos)?, Dense::new(OP, "sin", sin)?, cos.dim(1)?);
    let rotation = cpu::rotary::Rotation { cos, sin, half, heads, width, pairs };
    let values = rotation.forward(&input.read());
    record(OP, &[x], values, x.dims(), move |dy, _, sink| sink.deliver(0, |dx| rotation.backward(dy, dx)))
}

fn on_device(engine: &Engine, x: &Tensor, cos: &Tensor, sin: &Tensor, pairs: RotaryPairs) -> Result<Tensor> {
    let tracked = tracks(OP, &[x])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let rotation = Rotation::new(engine, cos, sin, pairs)?;
    let out = engine.allocate(x.dtype(), x.dims(), Role::leaf_if(tracked))?;
    rotation.turn(input.tensor(), 1.0, &out)?;
    let (own, shape) = (engine.clone(), x.dims().to_vec());
    push_on(engine, &[x], &[&out], move |gradients, sink| {
        if !sink.wants(0) {
            return Ok(());
        }
        let dy = single(gradients, OP)?;
        let dx = own.allocate(dy.dtype(), &shape, Role::Constant)?;
        // A rotation's transpose rotates back.
        rotation.turn(dy, -1.0, &dx)?;
        sink.give(0, dx)
    })?;
    Ok(out)
}
