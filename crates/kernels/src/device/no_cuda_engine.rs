//! The GPU's engine of a build without the feature `cuda`: there is none.

use super::address::unknown;
use super::launch::{Arguments, Grid, Module};
use super::multiply::Product;
use super::operand::Operand;
use crate::error::{KernelError, Result};
use candle_core::{CudaStorage, DType, Device, Storage};

/// A type without values.
#[derive(Clone, Debug)]
pub(crate) enum Cuda {}

impl Cuda {
    /// The engine of a GPU's tensors; `None` for other devices.
    pub(super) fn of(_: &Device) -> Option<Self> {
        None
    }

    pub(super) fn device(&self) -> Device {
        match *self {}
    }

    pub(super) fn storage(&self, _: DType, _: usize, _: bool) -> Result<Storage> {
        match *self {}
    }

    /// # Safety
    ///
    /// As for [`super::engine::Engine::launch`].
    pub(super) unsafe fn launch<A: Arguments>(&self, module: Module, _: &str, _: Grid, _: &A) -> Result<()> {
        let _ = module.image;
        match *self {}
    }

    pub(super) fn multiply(&self, _: Product<'_>) -> Result<()> {
        match *self {}
    }

    pub(super) fn multiply_with_bias(&self, _: Product<'_>, _: &Operand) -> Result<bool> {
        match *self {}
    }
}

/// The address of a storage's first element, and the bytes of an element.
pub(super) fn start(_: &CudaStorage) -> Result<(u64, usize)> {
    Err(unknown())
}

/// The GPU's error that an error of candle reports; there is no GPU in this build.
pub(crate) fn gpu_error(_: &candle_core::Error) -> Option<KernelError> {
    None
}

/// The compiled module; empty in this build.
macro_rules! image {
    ($name:literal) => {
        &[]
    };
}
pub(crate) use image;
