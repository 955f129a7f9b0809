//! Sums and conversions of whole tensors.

use super::address::{Address, reading, writing};
use super::engine::Engine;
use super::launch::{Grid, Module, arguments, module};
use crate::error::Result;
use candle_core::{DType, Tensor};

const MODULE: Module = module!("elementwise");
const THREADS: u32 = 256;

arguments! {
    struct Add {
        a: Address,
        b: Address,
        out: Address,
        count: u64,
        wide: u32,
        unused: u32,
    }
}

/// `out` = `a` + `b`, all contiguous, of one length; `out` has the dtype of `a`.
pub(crate) fn sum_into(engine: &Engine, a: &Tensor, b: &Tensor, out: &Tensor) -> Result<()> {
    if a.dtype() != b.dtype() {
        cast_into(engine, a, out)?;
        return accumulate(engine, out, b);
    }
    assert!(a.elem_count() == out.elem_count() && b.elem_count() == out.elem_count(), "lengths differ");
    let (a_at, b_at, out_at) = (reading(a)?, reading(b)?, writing(out)?);
    let count = out.elem_count();
    let wide = Engine::wide(out.dtype(), count, &[a_at, b_at, out_at]);
    let each = if wide == 1 { 16 / out.dtype().size_in_bytes() } else { 1 };
    let arguments = Add { a: a_at, b: b_at, out: out_at, count: count as u64, wide, unused: 0 };
    let kernel = super::launch::typed("add", out.dtype());
    // SAFETY: `Add` is the kernel's struct, and all three tensors have `count` elements of its dtype.
    unsafe { engine.launch(MODULE, &kernel, Grid::of_threads(count / each, THREADS)?, &arguments) }
}

arguments! {
    struct Convert {
        from: Address,
        to: Address,
        count: u64,
        accumulate: u32,
        unused: u32,
    }
}

/// `sum` += `gradient`, both contiguous, of one length; between float32 and any dtype, or of one dtype.
pub(crate) fn accumulate(engine: &Engine, sum: &Tensor, gradient: &Tensor) -> Result<()> {
    convert(engine, gradient, sum, true)
}

/// `to` = `from`, rounded to its dtype; both contiguous and of one length.
pub(crate) fn cast_into(engine: &Engine, from: &Tensor, to: &Tensor) -> Result<()> {
    convert(engine, from, to, false)
}

/// `to` = `from`, or += with `accumulate`; both contiguous, of one length; between float32 and any dtype, or of one dtype.
pub(crate) fn convert(engine: &Engine, from: &Tensor, to: &Tensor, accumulate: bool) -> Result<()> {
    assert_eq!(from.elem_count(), to.elem_count(), "lengths differ");
    let name = |dtype: DType| dtype.as_str();
    let kernel = format!("convert_{}_{}", name(from.dtype()), name(to.dtype()));
    let count = to.elem_count();
    let from = from.contiguous()?;
    let arguments = Convert {
        from: reading(&from)?,
        to: writing(to)?,
        count: count as u64,
        accumulate: u32::from(accumulate),
        unused: 0,
    };
    // SAFETY: `Convert` is the kernel's struct, and both tensors have `count` elements of the dtypes in its name.
    unsafe { engine.launch(MODULE, &kernel, Grid::of_elements(count, 4 * THREADS as usize, THREADS)?, &arguments) }
}
