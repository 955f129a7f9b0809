//! A gated activation of both halves of a row, as a fused projection gives them.

use super::{clamped_swiglu, columns, geglu, swiglu};
use crate::autograd::tracks;
use crate::checks::matrix;
use crate::device::{Engine, Operand, Role, gated};
use crate::error::{KernelError, Result};
use crate::options::Gate;
use candle_core::Tensor;

const OP: &str = "gated_halves";

/// φ(gate) ∘ up, (N, W), of `gate_up` (N, 2·W), which holds one after the other in each row. Without gradients it is one launch
/// on a device.
///
/// # Errors
///
/// As for [`columns()`], [`swiglu`] and [`clamped_swiglu`]; [`KernelError::Shape`] for an odd number of columns.
pub fn gated_halves(gate_up: &Tensor, kind: Gate) -> Result<Tensor> {
    let (rows, both) = matrix(OP, "gate_up", "(N, 2·W)", gate_up)?;
    if !both.is_multiple_of(2) {
        let (expected, got) = ("[N, an even number]".to_owned(), gate_up.dims().to_vec());
        return Err(KernelError::Shape { op: OP, argument: "gate_up", expected, got });
    }
    let width = both / 2;
    let kernel = match kind {
        Gate::Silu => Some("swiglu"),
        Gate::GeluTanh => Some("geglu"),
        Gate::Clamped(_) => None,
    };
    if let (Some(engine), Some(kernel)) = (Engine::of(gate_up), kernel)
        && !tracks(OP, &[gate_up])?
    {
        let input = Operand::first(&engine, OP, "gate_up", gate_up)?;
        let out = engine.allocate(gate_up.dtype(), &[rows, width], Role::Constant)?;
        gated::forward_halves(&engine, kernel, &input, &out)?;
        return Ok(out);
    }
    let (gate, up) = (columns(gate_up, 0..width)?, columns(gate_up, width..both)?);
    match kind {
        Gate::Silu => swiglu(&gate, &up),
        Gate::GeluTanh => geglu(&gate, &up),
        Gate::Clamped(clamp) => clamped_swiglu(&gate, &up, clamp),
    }
}
