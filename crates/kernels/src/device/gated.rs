//! Gated activations: φ(gate) ∘ up.

use super::address::{Address, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, module, typed};
use super::operand::Operand;
use crate::error::Result;
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
        halves: u32,
    }
}

/// `out` = φ(gate) ∘ up of the activation `op`.
pub(crate) fn forward(engine: &Engine, op: &str, inputs: &[Operand; 2], out: &Tensor) -> Result<()> {
    launch(engine, op, inputs, None, [out, out])
}

/// `out` (N, W) = φ(gate) ∘ up of the activation `op`, where each row of `both` (N, 2·W) has its gate, then its up.
pub(crate) fn forward_halves(engine: &Engine, op: &str, both: &Operand, out: &Tensor) -> Result<()> {
    let (dtype, (rows, width)) = (out.dtype(), out.dims2()?);
    let start = both.address()?;
    let up = Address(start.0 + (width * dtype.size_in_bytes()) as u64);
    let out_at = writing(out)?;
    let wide = Engine::wide(dtype, width, &[start, up, out_at]);
    let each = if wide == 1 { 16 / dtype.size_in_bytes() } else { 1 };
    let arguments = Gated {
        gate: start,
        up,
        dy: Address::NONE,
        out: out_at,
        out_up: out_at,
        count: out.elem_count() as u64,
        wide,
        halves: width as u32,
    };
    let grid = Grid::of_threads(rows * width / each, 256)?;
    // SAFETY: `Gated` is the kernel's struct; `out` has `count` elements of its dtype in rows of `width`, `both` twice as many.
    unsafe { engine.launch(MODULE, &typed(op, dtype), grid, &arguments) }
}

/// The gradients of gate and up of the activation `op` from `dy`.
pub(crate) fn backward(engine: &Engine, op: &str, inputs: &[Operand; 2], dy: &Tensor) -> Result<[Tensor; 2]> {
    let like = inputs[0].tensor();
    let [d_gate, d_up] = [(); 2].map(|()| engine.allocate(like.dtype(), like.dims(), Role::Constant));
    let (d_gate, d_up) = (d_gate?, d_up?);
    launch(engine, &format!("{op}_backward"), inputs, Some(dy), [&d_gate, &d_up])?;
    Ok([d_gate, d_up])
}

fn launch(
    engine: &Engine,
    name: &str,
    [gate, up]: &[Operand; 2],
    dy: Option<&Tensor>,
    [out, out_up]: [&Tensor; 2],
) -> Result<()> {
    let (count, dtype) = (out.elem_count(), out.dtype());
    let (gate, up, dy) = (gate.address()?, up.address()?, Engine::reading_if(dy)?);
    let (out, out_up) = (writing(out)?, writing(out_up)?);
    let wide = Engine::wide(dtype, count, &[gate, up, dy, out, out_up]);
    let each = if wide == 1 { 16 / dtype.size_in_bytes() } else { 1 };
    let arguments = Gated { gate, up, dy, out, out_up, count: count as u64, wide, halves: 0 };
    // SAFETY: `Gated` is the kernel's struct, and all tensors have `count` elements of its dtype.
    unsafe { engine.launch(MODULE, &typed(name, dtype), Grid::of_threads(count / each, 256)?, &arguments) }
}
