//! Σ weightsᵢ·xᵢ as a scalar.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, module, typed};
use super::operand::Operand;
use super::outlet::single;
use crate::error::Result;
use crate::tape;
use candle_core::{DType, Tensor};

const OP: &str = "weighted_sum";
const MODULE: Module = module!("weighted_sum");

arguments! {
    struct WeightedSum {
        x: Address,
        weights: Address,
        out: Address,
        count: u64,
    }
}

/// As [`crate::weighted_sum`], the weights checked; the sum is float32 for every type of x.
pub(crate) fn weighted_sum(engine: &Engine, x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let tracked = tape::tracks(OP, &[x])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let factors = Operand::new(engine, OP, "weights", weights, x.dtype())?;
    let out = engine.allocate(DType::F32, &[], Role::leaf_if(tracked))?;
    let arguments = WeightedSum {
        x: input.address()?,
        weights: factors.address()?,
        out: writing(&out)?,
        count: x.elem_count() as u64,
    };
    let grid = Grid { blocks: [1, 1, 1], threads: 256, shared: 0 };
    // SAFETY: `WeightedSum` is the kernel's struct; both tensors have `count` elements of its type, `out` one.
    unsafe { engine.launch(MODULE, &typed("weighted_sum", x.dtype()), grid, &arguments)? };
    let (own, dtype, shape) = (engine.clone(), x.dtype(), x.dims().to_vec());
    tape::push_on(engine, &[x], &[&out], move |gradients, outlet| {
        let scale = single(gradients, OP)?;
        let slope = own.allocate(dtype, &shape, Role::Constant)?;
        let arguments = WeightedSum {
            x: reading(scale)?,
            weights: factors.address()?,
            out: writing(&slope)?,
            count: slope.elem_count() as u64,
        };
        let grid = Grid::of_threads(slope.elem_count(), 256)?;
        // SAFETY: `WeightedSum` is the kernel's struct; x is one float32 here, the others have `count` elements.
        unsafe { own.launch(MODULE, &typed("weighted_sum_backward", dtype), grid, &arguments)? };
        outlet.give(0, slope)
    })?;
    Ok(out)
}
