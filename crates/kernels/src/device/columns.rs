//! Columns out of a fused projection.

use super::address::{Address, reading, writing};
use super::convert;
use super::engine::Engine;
use super::grad::DeviceGrad;
use super::launch::{Grid, Module, arguments, module, typed};
use crate::error::Result;
use candle_core::{DType, Tensor};
use std::ops::Range;

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

/// Columns `range` of `x` (rows, width), copied to `out` (rows, range).
pub(crate) fn take_columns(engine: &Engine, x: &Tensor, range: Range<usize>, out: &Tensor) -> Result<()> {
    let (rows, width) = x.dims2()?;
    let (dtype, narrow) = (out.dtype(), range.len());
    let from = Part::new(reading(x)?, dtype, range.start, width);
    copy(engine, dtype, from, Part::new(writing(out)?, dtype, 0, narrow), [rows, narrow], false)
}

/// The gradient of `x` (rows, width) from `dy`, that of its columns `range`: added to those columns, the others zero if
/// there was no gradient.
pub(crate) fn columns_backward(
    engine: &Engine,
    dy: &Tensor,
    range: Range<usize>,
    [rows, width]: [usize; 2],
    grad: &DeviceGrad,
) -> Result<Option<Tensor>> {
    let dtype = dy.dtype();
    let DeviceGrad { tensor, accumulate } = grad;
    let whole =
        if *accumulate && tensor.dtype() == dtype { tensor.clone() } else { engine.zeros(dtype, &[rows, width])? };
    let from = Part::new(reading(dy)?, dtype, 0, range.len());
    let to = Part::new(writing(&whole)?, dtype, range.start, width);
    copy(engine, dtype, from, to, [rows, range.len()], *accumulate)?;
    if tensor.dtype() == dtype {
        return Ok(Some(whole));
    }
    // A parameter's own gradient, in float32.
    convert(engine, &whole, tensor, *accumulate)?;
    Ok(None)
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
