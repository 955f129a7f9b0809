//! Tensors read as flat float32 slices, in row-major order.

use crate::error::{KernelError, Result};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use std::ops::Deref;
use std::sync::{Arc, OnceLock, RwLockReadGuard};

/// A float32 tensor in host memory whose elements lie side by side; a strided one is copied once.
pub(crate) struct Dense(Elements);

enum Elements {
    Held(Tensor),
    Remade(Arc<Remake>),
}

impl Dense {
    pub(crate) fn new(op: &'static str, argument: &'static str, tensor: &Tensor) -> Result<Self> {
        if !matches!(tensor.device(), Device::Cpu) {
            return Err(KernelError::Device { op, argument, got: format!("{:?}", tensor.device().location()) });
        }
        if tensor.dtype() != DType::F32 {
            return Err(KernelError::Type { op, argument, got: tensor.dtype() });
        }
        Ok(Self(Elements::Held(tensor.detach().contiguous()?)))
    }

    /// Lets the elements go and makes them again at the next read.
    pub(crate) fn remade(remake: Arc<Remake>) -> Self {
        Self(Elements::Remade(remake))
    }

    pub(crate) fn read(&self) -> Slice<'_> {
        match &self.0 {
            Elements::Held(tensor) => {
                let (guard, layout) = tensor.storage_and_layout();
                Slice::Locked { guard, start: layout.start_offset(), len: layout.shape().elem_count() }
            }
            Elements::Remade(remake) => Slice::Plain(remake.values()),
        }
    }
}

/// A way to make a tensor's elements again, bit by bit the same, and the elements once made. They go when the last
/// reader does.
pub(crate) struct Remake {
    make: Box<dyn Fn() -> Vec<f32> + Send + Sync>,
    values: OnceLock<Vec<f32>>,
}

impl Remake {
    pub(crate) fn new(make: impl Fn() -> Vec<f32> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { make: Box::new(make), values: OnceLock::new() })
    }

    fn values(&self) -> &[f32] {
        self.values.get_or_init(&self.make)
    }
}

/// The elements of a [`Dense`] tensor.
pub(crate) enum Slice<'a> {
    /// Under a read lock on the tensor.
    Locked { guard: RwLockReadGuard<'a, Storage>, start: usize, len: usize },
    /// Made again.
    Plain(&'a [f32]),
}

impl Deref for Slice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Plain(values) => values,
            Self::Locked { guard, start, len } => match &**guard {
                Storage::Cpu(CpuStorage::F32(values)) => &values[*start..start + len],
                // `Dense::new` looked at both and a tensor never changes either.
                _ => unreachable!("a dense tensor is float32 in host memory"),
            },
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
