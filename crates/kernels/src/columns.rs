//! Columns out of a fused projection.

use crate::dense::{Dense, matrix};
use crate::device::{self, engine};
use crate::error::{KernelError, Result};
use crate::graph::record;
use crate::simd::add_assign;
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
    let (count, width) = matrix(OP, "x", "(N, W)", x)?;
    if range.start > range.end || range.end > width {
        let got = format!("{range:?} of {width}");
        return Err(KernelError::Option { op: OP, option: "range", expected: "within the columns", got });
    }
    if let Some(engine) = engine(x) {
        return device::columns(&engine, x, range);
    }
    let dense = Dense::new(OP, "x", x)?;
    let mut values = Vec::with_capacity(count * range.len());
    for row in dense.read().chunks_exact(width.max(1)) {
        values.extend_from_slice(&row[range.clone()]);
    }
    record(OP, &[x], values, &[count, range.len()], move |gradient, _, out| {
        out.deliver(0, |buffer| {
            buffer.zero_unless_accumulating();
            let rows = buffer.values.chunks_exact_mut(width.max(1));
            for (row, slope) in rows.zip(gradient.chunks_exact(range.len().max(1))) {
                add_assign(&mut row[range.clone()], slope);
            }
        })
    })
}
