//! Rotary position embedding.

use super::address::{Address, reading, writing};
use super::engine::Engine;
use super::launch::{Grid, Module, arguments, module, typed};
use super::operand::Operand;
use crate::error::Result;
use crate::options::RotaryPairs;
use candle_core::{DType, Tensor};

const OP: &str = "rotary";
const MODULE: Module = module!("rotary");

arguments! {
    struct Rotary {
        x: Address,
        cos: Address,
        sin: Address,
        out: Address,
        count: u64,
        heads: u32,
        width: u32,
        half: u32,
        sign: f32,
        interleaved: u32,
        wide: u32,
    }
}

/// Angles of N tokens, (N, half), float32 for every dtype of x.
pub(crate) struct Rotation {
    engine: Engine,
    cos: Operand,
    sin: Operand,
    half: usize,
    pairs: RotaryPairs,
}

impl Rotation {
    pub(crate) fn new(engine: &Engine, cos: &Tensor, sin: &Tensor, pairs: RotaryPairs) -> Result<Self> {
        Ok(Self {
            engine: engine.clone(),
            cos: Operand::new(engine, OP, "cos", cos, DType::F32)?,
            sin: Operand::new(engine, OP, "sin", sin, DType::F32)?,
            half: cos.dim(1)?,
            pairs,
        })
    }

    /// `out` = `x` (N, heads, D) rotated; `sign` −1 rotates back.
    pub(crate) fn turn(&self, x: &Tensor, sign: f32, out: &Tensor) -> Result<()> {
        let (tokens, heads, width) = out.dims3()?;
        let (x_at, cos, sin, out_at) = (reading(x)?, self.cos.address()?, self.sin.address()?, writing(out)?);
        let starts = [x_at, cos, sin, out_at];
        let fits = [width, self.half].map(|extent| Engine::wide(out.dtype(), extent, &starts)) == [1, 1];
        let wide = fits && self.pairs == RotaryPairs::Halves;
        let each = if wide { 16 / out.dtype().size_in_bytes() } else { 1 };
        let count = tokens * heads * (width - self.half) / each;
        let arguments = Rotary {
            x: x_at,
            cos,
            sin,
            out: out_at,
            count: count as u64,
            heads: heads as u32,
            width: width as u32,
            half: self.half as u32,
            sign,
            interleaved: u32::from(self.pairs == RotaryPairs::Neighbours),
            wide: u32::from(wide),
        };
        // SAFETY: `Rotary` is the kernel's struct; x and out are (tokens, heads, width) of its dtype, the angles
        // (tokens, half), as `ops::rotary` has checked.
        unsafe { self.engine.launch(MODULE, &typed("rotary", out.dtype()), Grid::of_threads(count, 256)?, &arguments) }
    }
}
