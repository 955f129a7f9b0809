//! Gated activations: φ(gate) ∘ up.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, module, typed};
use super::operand::Operand;
use super::outlet::single;
use crate::error::Result;
use crate::tape;
use candle_core::Tensor;

const MODULE: Module = module!("gated");

arguments! {
    struct Gated {
        gate: Address,
        up: Address,
        dy: Address,
        out: Address,
        out_up: Address,
        count: u64,
        wide: u32,
        unused: u32,
    }
}

/// As [`crate::swiglu`] and [`crate::geglu`], whose name `op` is.
pub(crate) fn gated(engine: &Engine, op: &'static str, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let tracked = tape::tracks(op, &[gate, up])?;
    let kept = [Operand::first(engine, op, "gate", gate)?, Operand::new(engine, op, "up", up, gate.dtype())?];
    let out = engine.allocate(gate.dtype(), gate.dims(), Role::leaf_if(tracked))?;
    launch(engine, op, &kept, None, [&out, &out])?;
    let own = engine.clone();
    tape::push_on(engine, &[gate, up], &[&out], move |gradients, outlet| {
        let gradient = single(gradients, op)?;
        let like = kept[0].tensor();
        let slopes = [(); 2].map(|()| own.allocate(like.dtype(), like.dims(), Role::Constant));
        let [d_gate, d_up] = slopes;
        let (d_gate, d_up) = (d_gate?, d_up?);
        launch(&own, &format!("{op}_backward"), &kept, Some(gradient), [&d_gate, &d_up])?;
        outlet.give(0, d_gate)?;
        outlet.give(1, d_up)
    })?;
    Ok(out)
}

fn launch(
    engine: &Engine,
    name: &str,
    [gate, up]: &[Operand; 2],
    dy: Option<&Tensor>,
    [out, out_up]: [&Tensor; 2],
) -> Result<()> {
    let (count, dtype) = (out.elem_count(), out.dtype());
    let (gate, up, dy) = (gate.address()?, up.address()?, dy.map_or(Ok(Address::NONE), reading)?);
    let (out, out_up) = (writing(out)?, writing(out_up)?);
    let wide = Engine::wide(dtype, count, &[gate, up, dy, out, out_up]);
    let each = if wide == 1 { 16 / dtype.size_in_bytes() } else { 1 };
    let arguments = Gated { gate, up, dy, out, out_up, count: count as u64, wide, unused: 0 };
    // SAFETY: `Gated` is the kernel's struct, and all tensors have `count` elements of its type.
    unsafe { engine.launch(MODULE, &typed(name, dtype), Grid::of_threads(count / each, 256)?, &arguments) }
}
