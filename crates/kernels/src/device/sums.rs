//! Sums over rows: gradients of a norm's factors and of a bias.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::grad::DeviceGrad;
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use crate::error::Result;
use candle_core::{DType, Tensor};

const MODULE: Module = module!("column_sums");
/// Rows of one share, if that makes no more than `SHARES` of them.
const ROWS: usize = 128;
const SHARES: usize = 256;

arguments! {
    struct ColumnSums {
        values: Address,
        factors: Address,
        scales: Address,
        shares: Address,
        rows: u64,
        rows_each: u64,
        width: u32,
        unused: u32,
    }
}

arguments! {
    struct AddShares {
        shares: Address,
        out: Address,
        count: u32,
        width: u32,
        accumulate: u32,
        unused: u32,
    }
}

/// A matrix of rows, with optional factors of its elements and of its rows.
#[derive(Clone, Copy)]
pub(crate) struct Summands<'a> {
    /// (rows, width).
    pub(crate) values: &'a Tensor,
    /// (rows, width), of the dtype of `values`.
    pub(crate) factors: Option<&'a Tensor>,
    /// (rows), float32.
    pub(crate) scales: Option<&'a Tensor>,
    pub(crate) width: usize,
}

/// Σ over rows of values·factors·scale of the row, (width), written to `grad` or added to it. Sums are float32; a `grad`
/// of another dtype gets them rounded.
pub(crate) fn column_sum_grad(engine: &Engine, summands: Summands<'_>, grad: &DeviceGrad) -> Result<()> {
    let DeviceGrad { tensor: target, accumulate } = grad;
    if target.dtype() != DType::F32 {
        let sums = engine.zeros(DType::F32, &[summands.width])?;
        column_sums(engine, summands, &sums, false)?;
        return super::convert(engine, &sums, target, *accumulate);
    }
    column_sums(engine, summands, target, *accumulate)
}

fn column_sums(engine: &Engine, summands: Summands<'_>, out: &Tensor, accumulate: bool) -> Result<()> {
    let Summands { values, factors, scales, width } = summands;
    let rows = values.elem_count().checked_div(width).unwrap_or(0);
    let rows_each = rows.div_ceil(SHARES).max(ROWS);
    let count = rows.div_ceil(rows_each);
    let shares = engine.allocate(DType::F32, &[count, width], Role::Constant)?;
    let shares_at = writing(&shares)?;
    let arguments = ColumnSums {
        values: reading(values)?,
        factors: Engine::reading_if(factors)?,
        scales: Engine::reading_if(scales)?,
        shares: shares_at,
        rows: rows as u64,
        rows_each: rows_each as u64,
        width: width as u32,
        unused: 0,
    };
    let grid = Grid { blocks: [blocks(width.div_ceil(32))?, count as u32, 1], threads: 256, shared: 0 };
    // SAFETY: `ColumnSums` is the kernel's struct; values and factors have `rows` × `width` elements of one dtype, the
    // scales `rows`, the shares a row of `width` for each block along y.
    unsafe { engine.launch(MODULE, &typed("column_sums", values.dtype()), grid, &arguments)? };
    let arguments = AddShares {
        shares: shares_at,
        out: writing(out)?,
        count: count as u32,
        width: width as u32,
        accumulate: u32::from(accumulate),
        unused: 0,
    };
    // SAFETY: `AddShares` is the kernel's struct; the shares are those above and `out` has `width` elements.
    unsafe { engine.launch(MODULE, "add_shares", Grid::of_threads(width, 256)?, &arguments) }
}
