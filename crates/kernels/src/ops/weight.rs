//! Weights of any storage as arguments.

use crate::checks::matrix;
use crate::cpu::weight::Weight;
use crate::device::{Engine, four_bit};
use crate::error::Result;
use candle_core::{DType, Tensor};
use std::borrow::Cow;

/// Rows and columns of a weight.
pub(super) fn extents(
    op: &'static str,
    argument: &'static str,
    expected: &'static str,
    weight: Weight<'_>,
) -> Result<(usize, usize)> {
    match weight {
        Weight::Tensor(tensor) => matrix(op, argument, expected, tensor),
        Weight::Packed(packed) => Ok(packed.shape()),
    }
}

/// The weight as a tensor of `dtype` on a device: packed blocks are dequantised there.
pub(super) fn on_device<'a>(engine: &Engine, weight: Weight<'a>, dtype: DType) -> Result<Cow<'a, Tensor>> {
    match weight {
        Weight::Tensor(tensor) => Ok(Cow::Borrowed(tensor)),
        Weight::Packed(packed) => Ok(Cow::Owned(four_bit::dequantise(engine, packed, dtype)?)),
    }
}
