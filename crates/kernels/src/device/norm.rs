//! Root-mean-square normalisation, alone and after a residual sum.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use super::operand::Operand;
use super::outlet::Outlet;
use super::sums::give_column_sums;
use crate::error::Result;
use crate::norm::{AddRmsNorm, NormOptions};
use crate::tape;
use candle_core::{DType, Tensor};
use std::sync::Arc;

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

/// As [`crate::rms_norm`].
pub(crate) fn rms_norm(engine: &Engine, x: &Tensor, weight: &Tensor, options: NormOptions) -> Result<Tensor> {
    let tracked = tape::tracks(OP, &[x, weight])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let factors = Operand::new(engine, OP, "weight", weight, x.dtype())?;
    let normed = engine.allocate(x.dtype(), x.dims(), Role::leaf_if(tracked))?;
    let norm = Norm::run(engine, input, factors, None, &normed, options)?;
    tape::push_on(engine, &[x, weight], &[&normed], move |gradients, outlet| {
        norm.backward(gradients[0].as_deref(), None, [&[0], &[1]], outlet)
    })?;
    Ok(normed)
}

/// As [`crate::add_rms_norm`].
pub(crate) fn add_rms_norm(
    engine: &Engine,
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    options: NormOptions,
) -> Result<AddRmsNorm> {
    let tracked = tape::tracks("add_rms_norm", &[x, residual, weight])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let stream = Operand::new(engine, OP, "residual", residual, x.dtype())?;
    let factors = Operand::new(engine, OP, "weight", weight, x.dtype())?;
    let [sum, normed] = [(); 2].map(|()| engine.allocate(x.dtype(), x.dims(), Role::leaf_if(tracked)));
    let (sum, normed) = (sum?, normed?);
    let norm = Norm::run(engine, input, factors, Some((&stream, &sum)), &normed, options)?;
    tape::push_on(engine, &[x, residual, weight], &[&sum, &normed], move |gradients, outlet| {
        let [d_sum, d_normed] = gradients else { return Ok(()) };
        match (d_sum, d_normed) {
            (Some(d_sum), None) => {
                outlet.pass(0, d_sum)?;
                outlet.pass(1, d_sum)
            }
            _ => norm.backward(d_normed.as_deref(), d_sum.as_deref(), [&[0, 1], &[2]], outlet),
        }
    })?;
    Ok(AddRmsNorm { sum, normed })
}

/// What the backward pass reads: what was normalised, the factors, and r of each row.
struct Norm {
    engine: Engine,
    input: Operand,
    factors: Operand,
    inverse: Tensor,
    rows: usize,
    width: usize,
    offset: f32,
}

impl Norm {
    /// Writes `normed`, and the sum if there is something to add.
    fn run(
        engine: &Engine,
        x: Operand,
        factors: Operand,
        residual: Option<(&Operand, &Tensor)>,
        normed: &Tensor,
        options: NormOptions,
    ) -> Result<Self> {
        let width = factors.tensor().elem_count();
        let rows = normed.elem_count().checked_div(width).unwrap_or(0);
        let inverse = engine.allocate(DType::F32, &[rows], Role::Constant)?;
        let offset = if options.unit_offset { 1.0 } else { 0.0 };
        let (residual_at, sum_at) = match residual {
            Some((residual, sum)) => (residual.address()?, writing(sum)?),
            None => (Address::NONE, Address::NONE),
        };
        let (x_at, weight, normed_at) = (x.address()?, factors.address()?, writing(normed)?);
        let warps = warps(width);
        let arguments = RmsNorm {
            x: x_at,
            residual: residual_at,
            weight,
            sum: sum_at,
            normed: normed_at,
            inverse: writing(&inverse)?,
            rows: rows as u64,
            width: width as u32,
            warps: warps as u32,
            wide: Engine::wide(normed.dtype(), width, &[x_at, residual_at, weight, sum_at, normed_at]),
            eps: options.eps as f32,
            offset,
            unused: 0,
        };
        // SAFETY: `RmsNorm` is the kernel's struct; x, residual, sum and normed have `rows` × `width` elements of the
        // kernel's type, the weight has `width` and the inverse `rows`.
        unsafe { engine.launch(MODULE, &typed("rms_norm", normed.dtype()), grid(rows, warps)?, &arguments)? };
        let input = match residual {
            Some((_, sum)) => Operand::new(engine, OP, "sum", sum, sum.dtype())?,
            None => x,
        };
        Ok(Self { engine: engine.clone(), input, factors, inverse, rows, width, offset })
    }

    /// From the gradient of the norm, and that of the sum, to those of the inputs and the factors, the arguments
    /// `indices` of the node.
    fn backward(
        &self,
        dy: Option<&Tensor>,
        d_sum: Option<&Tensor>,
        [inputs, factors]: [&[usize]; 2],
        outlet: &mut Outlet<'_>,
    ) -> Result<()> {
        let Some(dy) = dy else { return Ok(()) };
        if inputs.iter().any(|&index| outlet.wants(index)) {
            let dx = Arc::new(self.input_gradient(dy, d_sum)?);
            for &index in inputs {
                outlet.pass(index, &dx)?;
            }
        }
        for &index in factors {
            let scales = [Some(self.input.tensor()), Some(&self.inverse)];
            give_column_sums(&self.engine, outlet, index, dy, scales, self.width)?;
        }
        Ok(())
    }

    fn input_gradient(&self, dy: &Tensor, base: Option<&Tensor>) -> Result<Tensor> {
        let input = self.input.tensor();
        let dx = self.engine.allocate(input.dtype(), input.dims(), Role::Constant)?;
        let (x, weight) = (self.input.address()?, self.factors.address()?);
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
        // SAFETY: as for the forward pass; the gradients have the type and the extents of x.
        unsafe { self.engine.launch(MODULE, &kernel, grid(self.rows, warps)?, &arguments)? };
        Ok(dx)
    }
}

/// Warps of a row: enough that a thread reads few times.
fn warps(width: usize) -> usize {
    (width.div_ceil(512)).next_power_of_two().min(8)
}

fn grid(rows: usize, warps: usize) -> Result<Grid> {
    let rows_of_block = THREADS / (32 * warps);
    Ok(Grid { blocks: [blocks(rows.div_ceil(rows_of_block))?, 1, 1], threads: THREADS as u32, shared: 0 })
}
