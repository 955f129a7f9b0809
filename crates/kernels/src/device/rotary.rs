//! Rotary position embedding.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, module, typed};
use super::operand::Operand;
use super::outlet::single;
use crate::error::Result;
use crate::tape;
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
    }
}

struct Angles {
    engine: Engine,
    cos: Operand,
    sin: Operand,
    half: usize,
}

/// As [`crate::rotary`]; the angles are float32 for every type of x.
pub(crate) fn rotary(engine: &Engine, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let tracked = tape::tracks(OP, &[x])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let angles = Angles {
        engine: engine.clone(),
        cos: Operand::new(engine, OP, "cos", cos, DType::F32)?,
        sin: Operand::new(engine, OP, "sin", sin, DType::F32)?,
        half: cos.dim(1)?,
    };
    let out = engine.allocate(x.dtype(), x.dims(), Role::leaf_if(tracked))?;
    angles.turn(input.tensor(), 1.0, &out)?;
    let shape = x.dims().to_vec();
    tape::push_on(engine, &[x], &[&out], move |gradients, outlet| {
        if !outlet.wants(0) {
            return Ok(());
        }
        let gradient = single(gradients, OP)?;
        let turned = angles.engine.allocate(gradient.dtype(), &shape, Role::Constant)?;
        // A rotation's transpose turns back.
        angles.turn(gradient, -1.0, &turned)?;
        outlet.give(0, turned)
    })?;
    Ok(out)
}

impl Angles {
    fn turn(&self, x: &Tensor, sign: f32, out: &Tensor) -> Result<()> {
        let (tokens, heads, width) = out.dims3()?;
        let count = tokens * heads * (width - self.half);
        let arguments = Rotary {
            x: reading(x)?,
            cos: self.cos.address()?,
            sin: self.sin.address()?,
            out: writing(out)?,
            count: count as u64,
            heads: heads as u32,
            width: width as u32,
            half: self.half as u32,
            sign,
        };
        // SAFETY: `Rotary` is the kernel's struct; x and out are (tokens, heads, width) of its type, the angles
        // (tokens, half), as `crate::rotary` has checked.
        unsafe { self.engine.launch(MODULE, &typed("rotary", out.dtype()), Grid::of_threads(count, 256)?, &arguments) }
    }
}
