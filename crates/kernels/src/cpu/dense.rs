//! Tensors read as flat float32 slices, in row-major order.

use crate::error::{KernelError, Result};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use std::ops::Deref;
use std::sync::{Arc, OnceLock, RwLockReadGuard};

/// A contiguous float32 tensor in host memory; a strided one is copied once.
pub(crate) struct Dense(Elements);

enum Elements {
    Held(Tensor),
    Recomputed(Arc<Recompute>),
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

    /// Keeps no elements and recomputes them at the next read.
    pub(crate) fn recomputed(recompute: Arc<Recompute>) -> Self {
        Self(Elements::Recomputed(recompute))
    }

    pub(crate) fn read(&self) -> Slice<'_> {
        match &self.0 {
            Elements::Held(tensor) => {
                let (guard, layout) = tensor.storage_and_layout();
                Slice::Locked { guard, start: layout.start_offset(), len: layout.shape().elem_count() }
            }
            Elements::Recomputed(recompute) => Slice::Plain(recompute.values()),
        }
    }
}

/// A function that recomputes a tensor's elements, bit-identical, and the elements once computed. They are freed with
/// the last reader.
pub(crate) struct Recompute {
    compute: Box<dyn Fn() -> Vec<f32> + Send + Sync>,
    values: OnceLock<Vec<f32>>,
}

impl Recompute {
    pub(crate) fn new(compute: impl Fn() -> Vec<f32> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { compute: Box::new(compute), values: OnceLock::new() })
    }

    fn values(&self) -> &[f32] {
        self.values.get_or_init(&self.compute)
    }
}

/// The elements of a [`Dense`] tensor.
pub(crate) enum Slice<'a> {
    /// Under a read lock on the tensor.
    Locked { guard: RwLockReadGuard<'a, Storage>, start: usize, len: usize },
    /// Recomputed.
    Plain(&'a [f32]),
}

impl Deref for Slice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Plain(values) => values,
            Self::Locked { guard, start, len } => match &**guard {
                Storage::Cpu(CpuStorage::F32(values)) => &values[*start..start + len],
                // `Dense::new` checked both and a tensor never changes either.
                _ => unreachable!("a dense tensor is float32 in host memory"),
            },
        }
    }
}
