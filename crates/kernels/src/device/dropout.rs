//! Dropout with a mask that is made again on the way back.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, module, typed};
use super::operand::Operand;
use super::outlet::single;
use crate::dropout::DropoutMask;
use crate::error::Result;
use crate::tape;
use candle_core::Tensor;

const OP: &str = "dropout";
const MODULE: Module = module!("dropout");

arguments! {
    struct Dropout {
        x: Address,
        out: Address,
        count: u64,
        first_word: u64,
        stream: u64,
        key: [u32; 8],
        keep: f32,
        unused: u32,
    }
}

/// As [`crate::dropout`].
pub(crate) fn dropout(engine: &Engine, x: &Tensor, mask: DropoutMask) -> Result<Tensor> {
    let tracked = tape::tracks(OP, &[x])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let out = engine.allocate(x.dtype(), x.dims(), Role::leaf_if(tracked))?;
    apply(engine, input.tensor(), mask, &out)?;
    let own = engine.clone();
    tape::push_on(engine, &[x], &[&out], move |gradients, outlet| {
        let gradient = single(gradients, OP)?;
        let masked = own.allocate(gradient.dtype(), gradient.dims(), Role::Constant)?;
        apply(&own, gradient, mask, &masked)?;
        outlet.give(0, masked)
    })?;
    Ok(out)
}

fn apply(engine: &Engine, x: &Tensor, mask: DropoutMask, out: &Tensor) -> Result<()> {
    let count = out.elem_count() as u64;
    let arguments = Dropout {
        x: reading(x)?,
        out: writing(out)?,
        count,
        first_word: mask.first_element,
        stream: mask.stream,
        key: mask.key(),
        keep: mask.keep(),
        unused: 0,
    };
    let random_blocks = (mask.first_element + count).div_ceil(16) - mask.first_element / 16;
    let grid = Grid::of_threads(random_blocks as usize, 256)?;
    // SAFETY: `Dropout` is the kernel's struct; x and out have `count` elements of its type.
    unsafe { engine.launch(MODULE, &typed("dropout", out.dtype()), grid, &arguments) }
}
