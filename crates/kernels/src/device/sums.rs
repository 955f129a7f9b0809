//! Sums over rows: gradients of a norm's factors and of a bias.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use super::outlet::{Open, Outlet};
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

/// Σ over rows of `values`·`factors`·scale of the row, (`width`): the gradient of argument `index`.
pub(super) fn give_column_sums(
    engine: &Engine,
    outlet: &mut Outlet<'_>,
    index: usize,
    values: &Tensor,
    [factors, scales]: [Option<&Tensor>; 2],
    width: usize,
) -> Result<()> {
    // Always in float32: the outlet adds it to what there is, of any type.
    let Some(Open { tensor: target, accumulate }) = outlet.open(index, DType::F32)? else {
        return Ok(());
    };
    if target.dtype() != DType::F32 {
        let sums = engine.zeros(DType::F32, &[width])?;
        column_sums(engine, values, [factors, scales], width, &sums, false)?;
        super::accumulate(engine, &target, &sums)?;
        return outlet.close(index, target);
    }
    column_sums(engine, values, [factors, scales], width, &target, accumulate)?;
    outlet.close(index, target)
}

fn column_sums(
    engine: &Engine,
    values: &Tensor,
    [factors, scales]: [Option<&Tensor>; 2],
    width: usize,
    out: &Tensor,
    accumulate: bool,
) -> Result<()> {
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
    // SAFETY: `ColumnSums` is the kernel's struct; values and factors have `rows` × `width` elements of one type, the
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
