//! Weights as the operations of the CPU read them: float32, 16 bits, or packed blocks. Whatever is not float32 is widened
//! piece by piece where it is used, so that a whole float32 copy never exists.

mod dynamic_map;
mod four_bit;
mod packed;
mod widen;

pub(crate) use dynamic_map::DynamicMap;
pub use four_bit::{FourBit, FourBitType, NestedScales, Scales};
pub(crate) use packed::DeviceBlocks;
pub use packed::{Blocks, PackedWeight};

use super::{Dense, Slice};
use crate::error::{KernelError, Result};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor, Var};
use half::{bf16, f16};
use std::ops::Range;
use std::sync::RwLockReadGuard;
use widen::{widen_bf16, widen_f16};

/// A weight argument, (O, I) or (V, H).
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// A tensor: on the CPU float32, or a frozen one in bfloat16 or float16.
    Tensor(&'a Tensor),
    /// Frozen packed blocks.
    Packed(&'a PackedWeight),
}

impl<'a> From<&'a Tensor> for Weight<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl<'a> From<&'a Var> for Weight<'a> {
    fn from(variable: &'a Var) -> Self {
        Self::Tensor(variable)
    }
}

impl<'a> From<&'a PackedWeight> for Weight<'a> {
    fn from(packed: &'a PackedWeight) -> Self {
        Self::Packed(packed)
    }
}

impl<'a> Weight<'a> {
    /// Rows and columns; `None` for a tensor that is no matrix.
    pub fn shape(self) -> Option<(usize, usize)> {
        match self {
            Self::Tensor(tensor) => tensor.dims2().ok(),
            Self::Packed(packed) => Some(packed.shape()),
        }
    }

    /// The tensor, if it requires a gradient.
    pub(crate) fn tracked(self) -> Option<&'a Tensor> {
        match self {
            Self::Tensor(tensor) => tensor.track_op().then_some(tensor),
            Self::Packed(_) => None,
        }
    }
}

/// A weight in host memory, held for reading.
pub(crate) enum Table {
    Single(Dense),
    /// Contiguous, bfloat16 or float16.
    Half(Tensor),
    Packed(PackedWeight),
}

impl Table {
    pub(crate) fn new(op: &'static str, argument: &'static str, weight: Weight<'_>) -> Result<Self> {
        let tensor = match weight {
            Weight::Packed(packed) => return Ok(Self::Packed(packed.clone())),
            Weight::Tensor(tensor) => tensor,
        };
        let is_half = matches!(tensor.dtype(), DType::BF16 | DType::F16);
        if !is_half || !matches!(tensor.device(), Device::Cpu) {
            return Ok(Self::Single(Dense::new(op, argument, tensor)?));
        }
        if tensor.track_op() {
            // Nothing on the CPU is trained in 16 bits.
            return Err(KernelError::Type { op, argument, got: tensor.dtype() });
        }
        Ok(Self::Half(tensor.contiguous()?))
    }

    pub(crate) fn read(&self) -> TableGuard<'_> {
        match self {
            Self::Single(dense) => TableGuard::Single(dense.read()),
            Self::Half(tensor) => {
                let (guard, layout) = tensor.storage_and_layout();
                TableGuard::Half { guard, start: layout.start_offset(), len: layout.shape().elem_count() }
            }
            Self::Packed(packed) => TableGuard::Packed(packed),
        }
    }
}

/// A weight under a read lock.
pub(crate) enum TableGuard<'a> {
    Single(Slice<'a>),
    Half { guard: RwLockReadGuard<'a, Storage>, start: usize, len: usize },
    Packed(&'a PackedWeight),
}

impl TableGuard<'_> {
    pub(crate) fn elements(&self) -> Elements<'_> {
        match self {
            Self::Single(values) => Elements::Single(values),
            Self::Packed(packed) => Elements::Packed(packed),
            Self::Half { guard, start, len } => match &**guard {
                Storage::Cpu(CpuStorage::BF16(values)) => Elements::Bf16(&values[*start..start + len]),
                Storage::Cpu(CpuStorage::F16(values)) => Elements::F16(&values[*start..start + len]),
                // `Table::new` checked both and a tensor never changes either.
                _ => unreachable!("a half table is in 16 bits in host memory"),
            },
        }
    }
}

/// The elements of a weight, row-major.
#[derive(Clone, Copy)]
pub(crate) enum Elements<'a> {
    Single(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
    Packed(&'a PackedWeight),
}

impl<'a> Elements<'a> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Single(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Packed(packed) => {
                let (rows, columns) = packed.shape();
                rows * columns
            }
        }
    }

    /// Writes the elements from `first` on in float32.
    pub(crate) fn read(self, first: usize, out: &mut [f32]) {
        let range = first..first + out.len();
        match self {
            Self::Single(values) => out.copy_from_slice(&values[range]),
            Self::Bf16(values) => widen_bf16(&values[range], out),
            Self::F16(values) => widen_f16(&values[range], out),
            Self::Packed(packed) => packed.read(first, out),
        }
    }

    /// The elements of `range` in float32: as they lie, or widened into `scratch`.
    pub(crate) fn part<'s>(self, range: Range<usize>, scratch: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        if let Self::Single(values) = self {
            return &values[range];
        }
        scratch.resize(range.len().max(scratch.len()), 0.0);
        let out = &mut scratch[..range.len()];
        self.read(range.start, out);
        out
    }
}
