//! Root-mean-square normalisation, alone and after a residual sum.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use super::operand::Operand;
use super::sums::Summands;
use crate::error::Result;
use crate::options::NormOptions;
use candle_core::{DType, Tensor};

const OP: &str = "rms_norm";
const MODULE: Module = module!("rms_norm");
const THREADS: usize = 256;

arguments! {
    struct RmsNorm {
        x: Address,
        residual: Address,
        weight: Address,
        sum: Address,
        normed: Address,
        inverse: Address,
        rows: u64,
        width: u32,
        warps: u32,
        wide: u32,
        eps: f32,
        offset: f32,
        unused: u32,
    }
}

arguments! {
    struct RmsNormBackward {
        x: Address,
        weight: Address,
        dy: Address,
        base: Address,
        dx: Address,
        inverse: Address,
        rows: u64,
        width: u32,
        warps: u32,
        wide: u32,
        offset: f32,
    }
}

/// Tensors of the backward pass: the input, the weight, and r of each row.
pub(crate) struct Norm {
    engine: Engine,
    input: Operand,
    weight: Operand,
    inverse: Tensor,
    rows: usize,
    width: usize,
    offset: f32,
}

/// A residual and the sum of it and the input, to be written.
pub(crate) struct ResidualSum<'a> {
    pub(crate) residual: &'a Operand,
    pub(crate) sum: &'a Tensor,
}

impl Norm {
    /// Writes `normed`, and the sum if there is a residual.
    pub(crate) fn run(
        engine: &Engine,
        x: Operand,
        weight: Operand,
        residual: Option<ResidualSum<'_>>,
        normed: &Tensor,
        options: NormOptions,
    ) -> Result<Self> {
        let width = weight.tensor().elem_count();
        let rows = normed.elem_count().checked_div(width).unwrap_or(0);
        let inverse = engine.allocate(DType::F32, &[rows], Role::Constant)?;
        let offset = if options.unit_offset { 1.0 } else { 0.0 };
        let (residual_at, sum_at) = match &residual {
            Some(ResidualSum { residual, sum }) => (residual.address()?, writing(sum)?),
            None => (Address::NONE, Address::NONE),
        };
        let (x_at, weight_at, normed_at) = (x.address()?, weight.address()?, writing(normed)?);
        let warps = warps(width);
        let arguments = RmsNorm {
            x: x_at,
            residual: residual_at,
            weight: weight_at,
            sum: sum_at,
            normed: normed_at,
            inverse: writing(&inverse)?,
            rows: rows as u64,
            width: width as u32,
            warps: warps as u32,
            wide: Engine::wide(normed.dtype(), width, &[x_at, residual_at, weight_at, sum_at, normed_at]),
            eps: options.eps as f32,
            offset,
            unused: 0,
        };
        // SAFETY: `RmsNorm` is the kernel's struct; x, residual, sum and normed have `rows` × `width` elements of the
        // kernel's dtype, the weight has `width` and the inverse `rows`.
        unsafe { engine.launch(MODULE, &typed("rms_norm", normed.dtype()), grid(rows, warps)?, &arguments)? };
        let input = match residual {
            Some(ResidualSum { sum, .. }) => Operand::new(engine, OP, "sum", sum, sum.dtype())?,
            None => x,
        };
        Ok(Self { engine: engine.clone(), input, weight, inverse, rows, width, offset })
    }

    /// Summands of the weight's gradient from `dy`.
    pub(crate) fn weight_summands<'a>(&'a self, dy: &'a Tensor) -> Summands<'a> {
        Summands { values: dy, factors: Some(self.input.tensor()), scales: Some(&self.inverse), width: self.width }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The gradient of the input from `dy`, plus `base` if there is one.
    pub(crate) fn input_gradient(&self, dy: &Tensor, base: Option<&Tensor>) -> Result<Tensor> {
        let input = self.input.tensor();
        let dx = self.engine.allocate(input.dtype(), input.dims(), Role::Constant)?;
        let (x, weight) = (self.input.address()?, self.weight.address()?);
        let (dy, base, dx_at) = (reading(dy)?, Engine::reading_if(base)?, writing(&dx)?);
        let warps = warps(self.width);
        let arguments = RmsNormBackward {
            x,
            weight,
            dy,
            base,
            dx: dx_at,
            inverse: reading(&self.inverse)?,
            rows: self.rows as u64,
            width: self.width as u32,
            warps: warps as u32,
            wide: Engine::wide(dx.dtype(), self.width, &[x, weight, dy, base, dx_at]),
            offset: self.offset,
        };
        let kernel = typed("rms_norm_backward", dx.dtype());
        // SAFETY: as for the forward pass; the gradients have the dtype and the extents of x.
        unsafe { self.engine.launch(MODULE, &kernel, grid(self.rows, warps)?, &arguments)? };
        Ok(dx)
    }
}

/// Warps of a row: enough that a thread reads few elements.
fn warps(width: usize) -> usize {
    (width.div_ceil(512)).next_power_of_two().min(8)
}

fn grid(rows: usize, warps: usize) -> Result<Grid> {
    let rows_of_block = THREADS / (32 * warps);
    Ok(Grid { blocks: [blocks(rows.div_ceil(rows_of_block))?, 1, 1], threads: THREADS as u32, shared: 0 })
}
