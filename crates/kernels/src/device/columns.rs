//! Columns out of a fused projection.

use super::address::{Address, reading, writing};
use super::convert;
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, module, typed};
use super::operand::Operand;
use super::outlet::{Open, single};
use crate::error::Result;
use crate::tape;
use candle_core::{DType, Tensor};
use std::ops::Range;

const OP: &str = "columns";
const MODULE: Module = module!("rows");

arguments! {
    struct Columns {
        from: Address,
        to: Address,
        rows: u64,
        from_stride: u64,
        to_stride: u64,
        width: u32,
        accumulate: u32,
    }
}

/// A part of a row-major matrix: its first column's address and the elements between rows.
struct Part {
    first: Address,
    stride: usize,
}

impl Part {
    fn new(start: Address, dtype: DType, column: usize, stride: usize) -> Self {
        Self { first: Address(start.0 + (column * dtype.size_in_bytes()) as u64), stride }
    }
}

/// As [`crate::columns`], the range checked.
pub(crate) fn columns(engine: &Engine, x: &Tensor, range: Range<usize>) -> Result<Tensor> {
    let tracked = tape::tracks(OP, &[x])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let (rows, width) = x.dims2()?;
    let (dtype, narrow) = (x.dtype(), range.len());
    let out = engine.allocate(dtype, &[rows, narrow], Role::leaf_if(tracked))?;
    let from = Part::new(input.address()?, dtype, range.start, width);
    copy(engine, dtype, from, Part::new(writing(&out)?, dtype, 0, narrow), [rows, narrow], false)?;
    let own = engine.clone();
    tape::push_on(engine, &[x], &[&out], move |gradients, outlet| {
        let gradient = single(gradients, OP)?;
        let Some(Open { tensor, accumulate: add }) = outlet.open(0, dtype)? else { return Ok(()) };
        let whole = if add && tensor.dtype() == dtype { tensor.clone() } else { own.zeros(dtype, &[rows, width])? };
        let from = Part::new(reading(gradient)?, dtype, 0, narrow);
        let to = Part::new(writing(&whole)?, dtype, range.start, width);
        copy(&own, dtype, from, to, [rows, narrow], add)?;
        if tensor.dtype() == dtype {
            return outlet.close(0, whole);
        }
        // A parameter's own gradient, in float32.
        convert(&own, &whole, &tensor, add)?;
        outlet.close(0, tensor)
    })?;
    Ok(out)
}

fn copy(
    engine: &Engine,
    dtype: DType,
    from: Part,
    to: Part,
    [rows, width]: [usize; 2],
    accumulate: bool,
) -> Result<()> {
    let arguments = Columns {
        from: from.first,
        to: to.first,
        rows: rows as u64,
        from_stride: from.stride as u64,
        to_stride: to.stride as u64,
        width: width as u32,
        accumulate: u32::from(accumulate),
    };
    let grid = Grid::of_elements(rows, 8, 256)?;
    // SAFETY: `Columns` is the kernel's struct; both matrices have `rows` rows of at least `width` columns from the
    // given one on, of the kernel's type.
    unsafe { engine.launch(MODULE, &typed("copy_columns", dtype), grid, &arguments) }
}
