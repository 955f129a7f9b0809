//! Dropout, its mask recomputed in the backward pass.

use super::address::{Address, reading, writing};
use super::engine::Engine;
use super::launch::{Grid, Module, arguments, module, typed};
use crate::error::Result;
use crate::options::DropoutMask;
use candle_core::Tensor;

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

/// `out` = `x` times the mask's factors.
pub(crate) fn apply(engine: &Engine, x: &Tensor, mask: DropoutMask, out: &Tensor) -> Result<()> {
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
    // SAFETY: `Dropout` is the kernel's struct; x and out have `count` elements of its dtype.
    unsafe { engine.launch(MODULE, &typed("dropout", out.dtype()), grid, &arguments) }
}
