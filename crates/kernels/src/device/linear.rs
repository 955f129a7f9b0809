//! x·Wᵀ + b, alone and added to a base.

use super::address::{Address, writing};
use super::engine::Engine;
use super::four_bit::dequantise;
use super::grad::DeviceGrad;
use super::launch::{Grid, Module, arguments, module, typed};
use super::multiply::Matrix;
use super::operand::Operand;
use crate::cpu::weight::{PackedWeight, Weight};
use crate::error::{KernelError, Result};
use candle_core::{DType, Tensor};
use std::borrow::Cow;

const OP: &str = "linear";
const MODULE: Module = module!("rows");

arguments! {
    struct Repeat {
        row: Address,
        out: Address,
        rows: u64,
        width: u32,
        wide: u32,
    }
}

/// Every row of `out` becomes `row`.
pub(crate) fn repeat(engine: &Engine, row: &Operand, out: &Tensor) -> Result<()> {
    let width = row.tensor().elem_count();
    let rows = out.elem_count().checked_div(width).unwrap_or(0);
    let (row, out_at) = (row.address()?, writing(out)?);
    let wide = Engine::wide(out.dtype(), width, &[row, out_at]);
    let arguments = Repeat { row, out: out_at, rows: rows as u64, width: width as u32, wide };
    let kernel = typed("repeat_row", out.dtype());
    // SAFETY: `Repeat` is the kernel's struct; `out` has `rows` rows of `width` of its dtype, `row` one.
    unsafe { engine.launch(MODULE, &kernel, Grid::of_elements(rows, 8, 256)?, &arguments) }
}

/// The factors of one product, x (count, inner) and weight (outer, inner), and its extents.
pub(crate) struct Factors {
    engine: Engine,
    x: Operand,
    weight: Factor,
    extents: Extents,
}

/// A weight on a device, or packed blocks, which each product dequantises anew.
enum Factor {
    Operand(Operand),
    Packed(PackedWeight, DType),
}

impl Factor {
    fn operand(&self, engine: &Engine) -> Result<Cow<'_, Tensor>> {
        match self {
            Self::Operand(operand) => Ok(Cow::Borrowed(operand.tensor())),
            Self::Packed(packed, dtype) => Ok(Cow::Owned(dequantise(engine, packed, *dtype)?)),
        }
    }
}

#[derive(Clone, Copy)]
struct Extents {
    count: usize,
    inner: usize,
    outer: usize,
    scale: f32,
}

impl Factors {
    pub(crate) fn new(engine: &Engine, x: &Tensor, weight: Weight<'_>, scale: f32) -> Result<Self> {
        let (outer, inner) =
            weight.shape().ok_or(KernelError::Rank { op: OP, argument: "weight", expected: "(O, I)", got: vec![] })?;
        let count = x.dims().iter().rev().skip(1).product();
        let weight = match weight {
            Weight::Tensor(tensor) => Factor::Operand(Operand::new(engine, OP, "weight", tensor, x.dtype())?),
            Weight::Packed(packed) => Factor::Packed(packed.clone(), x.dtype()),
        };
        let x = Operand::first(engine, OP, "x", x)?;
        Ok(Self { engine: engine.clone(), x, weight, extents: Extents { count, inner, outer, scale } })
    }

    /// `out` = `scale` · x · weightᵀ, or += with `accumulate`.
    pub(crate) fn multiply(&self, out: &Tensor, accumulate: bool) -> Result<()> {
        let Extents { count, inner, outer, scale } = self.extents;
        let target = Matrix::new(out, count, outer);
        let x = Matrix::new(self.x.tensor(), count, inner);
        let weight = self.weight.operand(&self.engine)?;
        self.engine.multiply(target, x, Matrix::new(&weight, outer, inner).t(), scale, accumulate)
    }

    /// `out` = `scale` · x · weightᵀ, and the bias, if there is one, added to every row.
    pub(crate) fn multiply_with_bias(&self, out: &Tensor, bias: Option<&Operand>) -> Result<()> {
        let Some(bias) = bias else { return self.multiply(out, false) };
        let Extents { count, inner, outer, scale } = self.extents;
        let weight = self.weight.operand(&self.engine)?;
        let (x, weight) = (Matrix::new(self.x.tensor(), count, inner), Matrix::new(&weight, outer, inner));
        self.engine.multiply_with_bias(out, x, weight.t(), scale, bias)
    }

    /// The factors that the backward pass reads: each if the other needs a gradient.
    pub(crate) fn saved(self, x: &Tensor, weight: Weight<'_>) -> SavedFactors {
        let Self { engine, x: x_kept, weight: weight_kept, extents } = self;
        SavedFactors {
            engine,
            x: weight.tracked().map(|_| x_kept),
            weight: x.track_op().then_some(weight_kept),
            extents,
        }
    }
}

/// A product's factors, each where the other needs a gradient.
pub(crate) struct SavedFactors {
    engine: Engine,
    x: Option<Operand>,
    weight: Option<Factor>,
    extents: Extents,
}

impl SavedFactors {
    /// The gradient of x from `dy`.
    pub(crate) fn x_grad(&self, dy: &Tensor, grad: &DeviceGrad) -> Result<()> {
        let Some(weight) = &self.weight else { return Ok(()) };
        let Extents { count, inner, outer, scale } = self.extents;
        let target = Matrix::new(&grad.tensor, count, inner);
        let weight = weight.operand(&self.engine)?;
        let weight = Matrix::new(&weight, outer, inner);
        self.engine.multiply(target, Matrix::new(dy, count, outer), weight, scale, grad.accumulate)
    }

    /// True if the weight needs a gradient.
    pub(crate) fn trains_weight(&self) -> bool {
        self.x.is_some()
    }

    /// The gradient of the weight from `dy`.
    pub(crate) fn weight_grad(&self, dy: &Tensor, grad: &DeviceGrad) -> Result<()> {
        let Some(x) = &self.x else { return Ok(()) };
        let Extents { count, inner, outer, scale } = self.extents;
        let target = Matrix::new(&grad.tensor, outer, inner);
        let x = Matrix::new(x.tensor(), count, inner);
        self.engine.multiply(target, Matrix::new(dy, count, outer).t(), x, scale, grad.accumulate)
    }
}
