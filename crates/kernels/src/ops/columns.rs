//! Columns out of a fused projection.

use crate::autograd::{push_on, record, single, tracks};
use crate::checks::matrix;
use crate::cpu::Dense;
use crate::cpu::simd::add_assign;
use crate::device::columns::{columns_backward, take_columns};
use crate::device::{Engine, Operand, Role};
use crate::error::{KernelError, Result};
use candle_core::Tensor;
use std::ops::Range;

const OP: &str = "columns";

/// `x` (N, W) to its columns `range`, (N, range), contiguous. The backward pass adds into those columns of one gradient,
/// where candle's `narrow` makes one of the whole width for every slice.
///
/// # Errors
///
/// [`KernelError::Option`] if the range is not within the width; [`KernelError::Rank`], [`KernelError::Type`],
/// [`KernelError::Device`] for an unfit tensor.
pub fn columns(x: &Tensor, range: Range<usize>) -> Result<Tensor> {
    let (_, width) = matrix(OP, "x", "(N, W)", x)?;
    if range.start > range.end || range.end > width {
        let got = format!("{range:?} of {width}");
        return Err(KernelError::Option { op: OP, option: "range", expected: "within the columns", got });
    }
    match Engine::of(x) {
        None => on_cpu(x, range),
        Some(engine) => on_device(&engine, x, range),
    }
}

fn on_cpu(x: &Tensor, range: Range<usize>) -> Result<Tensor> {
    let (count, width) = x.dims2()?;
    let dense = Dense::new(OP, "x", x)?;
    let mut values = Vec::with_capacity(count * range.len());
    for row in dense.read().chunks_exact(width.max(1)) {
        values.extend_from_slice(&row[range.clone()]);
    }
    record(OP, &[x], values, &[count, range.len()], move |gradient, _, sink| {
        sink.deliver(0, |dx| {
            dx.zero_unless_accumulating();
            let rows = dx.values.chunks_exact_mut(width.max(1));
            for (row, dy) in rows.zip(gradient.chunks_exact(range.len().max(1))) {
                add_assign(&mut row[range.clone()], dy);
            }
        })
    })
}

fn on_device(engine: &Engine, x: &Tensor, range: Range<usize>) -> Result<Tensor> {
    let tracked = tracks(OP, &[x])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let (rows, width) = x.dims2()?;
    let dtype = x.dtype();
    let out = engine.allocate(dtype, &[rows, range.len()], Role::leaf_if(tracked))?;
    take_columns(engine, input.tensor(), range.clone(), &out)?;
    let own = engine.clone();
    push_on(engine, &[x], &[&out], move |gradients, sink| {
        let dy = single(gradients, OP)?;
        let Some(grad) = sink.open(0, dtype)? else { return Ok(()) };
        let whole = columns_backward(&own, dy, range.clone(), [rows, width], &grad)?;
        sink.close(0, whole.unwrap_or(grad.tensor))
    })?;
    Ok(out)
}
