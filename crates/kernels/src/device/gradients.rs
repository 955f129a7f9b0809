//! Float32 gradients of parameters in a device's memory.

use super::engine::{Engine, Role};
use super::outlet::Open;
use super::{accumulate, convert};
use crate::error::Result;
use candle_core::{DType, Tensor};

/// The gradient of one parameter, allocated when first written.
#[derive(Debug, Default)]
pub(crate) struct DeviceSlot {
    tensor: Option<Tensor>,
    filled: bool,
}

impl DeviceSlot {
    pub(crate) fn get(&self) -> Option<&Tensor> {
        self.tensor.as_ref().filter(|_| self.filled)
    }

    /// The buffer, to be put back.
    pub(crate) fn take(&mut self, engine: &Engine, shape: &[usize]) -> Result<Open> {
        let accumulate = std::mem::take(&mut self.filled);
        let tensor = match self.tensor.take() {
            Some(tensor) => tensor,
            None => engine.allocate(DType::F32, shape, Role::Constant)?,
        };
        Ok(Open { tensor, accumulate })
    }

    /// Takes a buffer back. One parameter may be several arguments of an operation: then its buffers add up.
    pub(crate) fn put(&mut self, engine: &Engine, tensor: Tensor) -> Result<()> {
        match self.get() {
            Some(sum) => accumulate(engine, sum, &tensor)?,
            None => self.tensor = Some(tensor),
        }
        self.filled = true;
        Ok(())
    }

    /// Adds a gradient of any type.
    pub(crate) fn add(&mut self, engine: &Engine, gradient: &Tensor) -> Result<()> {
        let Open { tensor, accumulate } = self.take(engine, gradient.dims())?;
        convert(engine, gradient, &tensor, accumulate)?;
        self.put(engine, tensor)
    }

    pub(crate) fn clear(&mut self) {
        self.filled = false;
    }

    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }
}
