//! Σ weightsᵢ·xᵢ as a scalar.

use super::address::{Address, reading, writing};
use super::engine::Engine;
use super::launch::{Grid, Module, arguments, module, typed};
use super::operand::Operand;
use crate::error::Result;
use candle_core::Tensor;

const MODULE: Module = module!("weighted_sum");

arguments! {
    struct WeightedSum {
        x: Address,
        weights: Address,
        out: Address,
        count: u64,
    }
}

/// `out` = Σ weightsᵢ·xᵢ, a float32 scalar for every dtype of x.
pub(crate) fn forward(engine: &Engine, x: &Operand, weights: &Operand, out: &Tensor) -> Result<()> {
    let (count, dtype) = (x.tensor().elem_count(), x.tensor().dtype());
    let arguments =
        WeightedSum { x: x.address()?, weights: weights.address()?, out: writing(out)?, count: count as u64 };
    let grid = Grid { blocks: [1, 1, 1], threads: 256, shared: 0 };
    // SAFETY: `WeightedSum` is the kernel's struct; both tensors have `count` elements of its dtype, `out` one.
    unsafe { engine.launch(MODULE, &typed("weighted_sum", dtype), grid, &arguments) }
}

/// `dx` = weights · dy, dy a float32 scalar.
pub(crate) fn backward(engine: &Engine, weights: &Operand, dy: &Tensor, dx: &Tensor) -> Result<()> {
    let count = dx.elem_count();
    let arguments =
        WeightedSum { x: reading(dy)?, weights: weights.address()?, out: writing(dx)?, count: count as u64 };
    let grid = Grid::of_threads(count, 256)?;
    // SAFETY: `WeightedSum` is the kernel's struct; x is one float32 here, the others have `count` elements.
    unsafe { engine.launch(MODULE, &typed("weighted_sum_backward", dx.dtype()), grid, &arguments) }
}
