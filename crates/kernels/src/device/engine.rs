//! Engines: a GPU or the emulator.

use super::address::Address;
use super::cuda_engine::Cuda;
use super::is_emulating;
use crate::error::{KernelError, Result};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, Shape, Storage, Tensor};
use half::{bf16, f16};

/// Allocates, copies, launches and multiplies.
#[derive(Clone, Debug)]
pub(crate) enum Engine {
    /// Kernels on the CPU, over tensors in host memory.
    Emulator,
    /// A GPU, over tensors in its memory.
    Cuda(Cuda),
}

/// The role of a fresh tensor in candle's graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A constant.
    Constant,
    /// A result on a tape: a leaf of candle's graph.
    Leaf,
}

impl Role {
    pub(crate) fn leaf_if(tracked: bool) -> Self {
        if tracked { Self::Leaf } else { Self::Constant }
    }
}

impl Engine {
    /// The engine of a tensor's operations; `None` for those of the CPU.
    pub(crate) fn of(tensor: &Tensor) -> Option<Self> {
        Self::at(tensor.device())
    }

    /// The engine of a device; `None` for the CPU's own operations.
    pub(crate) fn at(device: &Device) -> Option<Self> {
        match device {
            Device::Cpu => is_emulating().then_some(Self::Emulator),
            device => Cuda::of(device).map(Self::Cuda),
        }
    }

    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Emulator => Device::Cpu,
            Self::Cuda(cuda) => cuda.device(),
        }
    }

    /// True if the tensor lies in this engine's memory.
    pub(crate) fn holds(&self, tensor: &Tensor) -> bool {
        tensor.device().same_device(&self.device())
    }

    /// Uninitialized tensor; filled with NaN in the emulator.
    pub(crate) fn allocate(&self, dtype: DType, shape: &[usize], role: Role) -> Result<Tensor> {
        self.fresh(dtype, shape, role, false)
    }

    /// A constant of zeros.
    pub(crate) fn zeros(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        self.fresh(dtype, shape, Role::Constant, true)
    }

    fn fresh(&self, dtype: DType, shape: &[usize], role: Role, zeroed: bool) -> Result<Tensor> {
        let len: usize = shape.iter().product();
        let storage = match self {
            Self::Emulator => Storage::Cpu(host_storage(dtype, len, zeroed)?),
            Self::Cuda(cuda) => cuda.storage(dtype, len, zeroed)?,
        };
        Ok(Tensor::from_storage(storage, Shape::from(shape), BackpropOp::none(), role == Role::Leaf))
    }

    /// Ids or row indices, copied from the host.
    pub(crate) fn upload(&self, values: &[u32]) -> Result<Tensor> {
        if values.is_empty() {
            // candle would ask the driver for no bytes, which some refuse.
            return self.allocate(DType::U32, &[0], Role::Constant);
        }
        Ok(Tensor::from_slice(values, values.len(), &self.device())?)
    }

    /// A copy with the same elements.
    pub(crate) fn copy(&self, tensor: &Tensor, role: Role) -> Result<Tensor> {
        let copy = self.allocate(tensor.dtype(), tensor.dims(), role)?;
        super::cast_into(self, tensor, &copy)?;
        Ok(copy)
    }

    /// 1 if rows of `width` elements can be read 16 bytes at a time from all of `starts`, else 0.
    pub(crate) fn wide(dtype: DType, width: usize, starts: &[Address]) -> u32 {
        let count = 16 / dtype.size_in_bytes();
        let aligned = starts.iter().all(|start| start.is_aligned_to(16));
        u32::from(aligned && width.is_multiple_of(count) && width > 0)
    }
}

fn host_storage(dtype: DType, len: usize, zeroed: bool) -> Result<CpuStorage> {
    let fill = if zeroed { 0 } else { u64::MAX };
    Ok(match dtype {
        DType::F32 => CpuStorage::F32(vec![f32::from_bits(fill as u32); len]),
        DType::F64 => CpuStorage::F64(vec![f64::from_bits(fill); len]),
        DType::BF16 => CpuStorage::BF16(vec![bf16::from_bits(fill as u16); len]),
        DType::F16 => CpuStorage::F16(vec![f16::from_bits(fill as u16); len]),
        DType::U32 => CpuStorage::U32(vec![fill as u32; len]),
        other => return Err(KernelError::Type { op: "allocate", argument: "result", got: other }),
    })
}
