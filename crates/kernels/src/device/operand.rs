//! Tensors that kernels read.

use super::address::{Address, reading};
use super::engine::Engine;
use crate::error::{KernelError, Result};
use candle_core::{DType, Tensor};

/// A contiguous tensor in an engine's memory; a strided one is copied once.
#[derive(Clone, Debug)]
pub(crate) struct Operand(Tensor);

impl Operand {
    /// `tensor`, refused unless it has `dtype`.
    pub(crate) fn new(
        engine: &Engine,
        op: &'static str,
        argument: &'static str,
        tensor: &Tensor,
        dtype: DType,
    ) -> Result<Self> {
        if !engine.holds(tensor) {
            let expected = format!("{:?}", engine.device().location());
            let got = format!("{:?}", tensor.device().location());
            return Err(KernelError::OtherDevice { op, argument, expected, got });
        }
        if tensor.dtype() != dtype {
            return Err(KernelError::OtherType { op, argument, expected: dtype, got: tensor.dtype() });
        }
        Ok(Self(tensor.detach().contiguous()?))
    }

    /// `tensor`, whose dtype is that of the operation.
    pub(crate) fn first(engine: &Engine, op: &'static str, argument: &'static str, tensor: &Tensor) -> Result<Self> {
        check_dtype(op, argument, tensor)?;
        Self::new(engine, op, argument, tensor, tensor.dtype())
    }

    pub(crate) fn tensor(&self) -> &Tensor {
        &self.0
    }

    pub(crate) fn address(&self) -> Result<Address> {
        reading(&self.0)
    }
}

/// Refuses elements that no kernel is made for.
pub(crate) fn check_dtype(op: &'static str, argument: &'static str, tensor: &Tensor) -> Result<()> {
    match tensor.dtype() {
        DType::F32 | DType::BF16 | DType::F16 => Ok(()),
        got => Err(KernelError::OtherType { op, argument, expected: DType::F32, got }),
    }
}
