//! Tensors read as flat float32 slices, in row-major order.

use crate::error::{KernelError, Result};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use std::ops::Deref;
use std::sync::RwLockReadGuard;

/// A float32 tensor in host memory whose elements lie side by side; a strided one is copied once.
pub(crate) struct Dense(Tensor);

impl Dense {
    pub(crate) fn new(op: &'static str, argument: &'static str, tensor: &Tensor) -> Result<Self> {
        if !matches!(tensor.device(), Device::Cpu) {
            return Err(KernelError::Device { op, argument, got: format!("{:?}", tensor.device().location()) });
        }
        if tensor.dtype() != DType::F32 {
            return Err(KernelError::Type { op, argument, got: tensor.dtype() });
        }
        Ok(Self(tensor.detach().contiguous()?))
    }

    pub(crate) fn read(&self) -> Slice<'_> {
        let (guard, layout) = self.0.storage_and_layout();
        Slice { guard, start: layout.start_offset(), len: layout.shape().elem_count() }
    }
}

/// A read lock on a [`Dense`] tensor.
pub(crate) struct Slice<'a> {
    guard: RwLockReadGuard<'a, Storage>,
    start: usize,
    len: usize,
}

impl Deref for Slice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.start + self.len],
            // `Dense::new` looked at both and a tensor never changes either.
            _ => unreachable!("a dense tensor is float32 in host memory"),
        }
    }
}

/// The last dimension and the number of rows before it.
pub(crate) fn rows(
    op: &'static str,
    argument: &'static str,
    expected: &'static str,
    tensor: &Tensor,
) -> Result<(usize, usize)> {
    match tensor.dims() {
        [] => Err(KernelError::Rank { op, argument, expected, got: vec![] }),
        [before @ .., last] => Ok((before.iter().product(), *last)),
    }
}

/// The dimensions of a matrix.
pub(crate) fn matrix(
    op: &'static str,
    argument: &'static str,
    expected: &'static str,
    tensor: &Tensor,
) -> Result<(usize, usize)> {
    match tensor.dims() {
        &[rows, columns] => Ok((rows, columns)),
        got => Err(KernelError::Rank { op, argument, expected, got: got.to_vec() }),
    }
}

/// Refuses any shape but `expected`.
pub(crate) fn same_shape(op: &'static str, argument: &'static str, expected: &[usize], tensor: &Tensor) -> Result<()> {
    if tensor.dims() == expected {
        return Ok(());
    }
    Err(KernelError::Shape { op, argument, expected: format!("{expected:?}"), got: tensor.dims().to_vec() })
}
