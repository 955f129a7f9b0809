//! Addresses of tensors in memory.

use super::engine::Engine;
use crate::error::{KernelError, Result};
use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Tensor};
use std::cell::Cell;

/// The address of an element, in the memory of its engine; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Address(pub(super) u64);

impl Address {
    /// No address: an argument that is left out.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn is_aligned_to(self, bytes: u64) -> bool {
        self.0.is_multiple_of(bytes)
    }
}

/// Address of a contiguous tensor, to be read.
pub(crate) fn reading(tensor: &Tensor) -> Result<Address> {
    let (storage, layout) = tensor.storage_and_layout();
    if !layout.is_contiguous() {
        return Err(strided(layout));
    }
    let start = layout.start_offset();
    match &*storage {
        Storage::Cpu(storage) => {
            let (first, size) = host_start(storage)?;
            Ok(Address(first as u64 + (start * size) as u64))
        }
        Storage::Cuda(storage) => {
            let (first, size) = super::cuda_engine::start(storage)?;
            Ok(Address(first + (start * size) as u64))
        }
        Storage::Metal(_) => Err(unknown()),
    }
}

/// Address of a contiguous tensor in memory; `None` for a strided one.
pub(crate) fn start_of(tensor: &Tensor) -> Option<u64> {
    reading(tensor).ok().map(|address| address.0)
}

/// Address of a contiguous tensor, to be written. Everything that shares its storage sees what is written.
pub(crate) fn writing(tensor: &Tensor) -> Result<Address> {
    let probe = Probe(Cell::new(Address::NONE));
    tensor.inplace_op1(&probe)?;
    Ok(probe.0.get())
}

/// Takes an address under candle's write lock.
struct Probe(Cell<Address>);

impl InplaceOp1 for Probe {
    fn name(&self) -> &'static str {
        "address"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        if !layout.is_contiguous() {
            return Err(strided(layout).into());
        }
        let (first, size) = host_start_mut(storage)?;
        self.0.set(Address(first as u64 + (layout.start_offset() * size) as u64));
        Ok(())
    }

    fn cuda_fwd(&self, storage: &mut candle_core::CudaStorage, layout: &Layout) -> candle_core::Result<()> {
        if !layout.is_contiguous() {
            return Err(strided(layout).into());
        }
        let (first, size) = super::cuda_engine::start(storage)?;
        self.0.set(Address(first + (layout.start_offset() * size) as u64));
        Ok(())
    }
}

fn strided(layout: &Layout) -> KernelError {
    KernelError::Candle(candle_core::Error::Msg(format!("expected a contiguous tensor, got {layout:?}")).bt())
}

pub(super) fn unknown() -> KernelError {
    KernelError::Candle(candle_core::Error::Msg("expected f32, bf16, f16, f64 or u32 on a known device".into()).bt())
}

fn host_start(storage: &CpuStorage) -> Result<(*const u8, usize)> {
    Ok(match storage {
        CpuStorage::F32(values) => (values.as_ptr().cast(), 4),
        CpuStorage::F64(values) => (values.as_ptr().cast(), 8),
        CpuStorage::BF16(values) => (values.as_ptr().cast(), 2),
        CpuStorage::F16(values) => (values.as_ptr().cast(), 2),
        CpuStorage::U32(values) => (values.as_ptr().cast(), 4),
        _ => return Err(unknown()),
    })
}

fn host_start_mut(storage: &mut CpuStorage) -> Result<(*mut u8, usize)> {
    Ok(match storage {
        CpuStorage::F32(values) => (values.as_mut_ptr().cast(), 4),
        CpuStorage::F64(values) => (values.as_mut_ptr().cast(), 8),
        CpuStorage::BF16(values) => (values.as_mut_ptr().cast(), 2),
        CpuStorage::F16(values) => (values.as_mut_ptr().cast(), 2),
        CpuStorage::U32(values) => (values.as_mut_ptr().cast(), 4),
        _ => return Err(unknown()),
    })
}

impl Engine {
    /// Address of `tensor`, or [`Address::NONE`].
    pub(crate) fn reading_if(tensor: Option<&Tensor>) -> Result<Address> {
        tensor.map_or(Ok(Address::NONE), reading)
    }
}
