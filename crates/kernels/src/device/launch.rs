//! Kernel launches.

use super::emulator;
use super::engine::Engine;
use crate::error::{KernelError, Result};
use candle_core::DType;

/// The arguments of a kernel: the twin of its struct in the `.cu` file, field by field.
///
/// # Safety
///
/// The type is `repr(C)`, of numbers and addresses alone, without padding.
pub(crate) unsafe trait Arguments: Copy + Sync {}

/// Defines a kernel's arguments.
macro_rules! arguments {
    ($(#[$attribute:meta])* struct $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        struct $name { $($field: $kind),* }

        const _: () = assert!(
            std::mem::size_of::<$name>() == 0 $(+ std::mem::size_of::<$kind>())*,
            "padding would leave bytes undefined"
        );

        // SAFETY: `repr(C)`, checked above to have no padding, and all its fields are plain.
        unsafe impl $crate::device::launch::Arguments for $name {}
    };
}
pub(crate) use arguments;

/// A file of kernels, compiled to one module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Module {
    pub(super) name: &'static str,
    /// Machine code of several GPUs and PTX; empty in a build without the feature `cuda`.
    pub(super) image: &'static [u8],
}

/// The module of `cuda/<name>.cu`.
macro_rules! module {
    ($name:literal) => {
        $crate::device::launch::Module { name: $name, image: $crate::device::cuda_engine::image!($name) }
    };
}
pub(crate) use module;

/// Numbers of blocks and of threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) blocks: [u32; 3],
    pub(crate) threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared: u32,
}

impl Grid {
    /// `threads` a block, enough blocks for `count` of them.
    pub(crate) fn of_threads(count: usize, threads: u32) -> Result<Self> {
        Ok(Self { blocks: [blocks(count.div_ceil(threads as usize))?, 1, 1], threads, shared: 0 })
    }

    /// `threads` a block, enough blocks for `count` elements, `each` a block.
    pub(crate) fn of_elements(count: usize, each: usize, threads: u32) -> Result<Self> {
        Ok(Self { blocks: [blocks(count.div_ceil(each))?, 1, 1], threads, shared: 0 })
    }
}

/// A number of blocks along x, checked against a grid's limit.
pub(crate) fn blocks(count: usize) -> Result<u32> {
    match u32::try_from(count) {
        Ok(count) if count <= i32::MAX as u32 => Ok(count),
        _ => Err(KernelError::Launch {
            kernel: "grid".into(),
            reason: format!("expected fewer than 2^31 blocks, got {count}"),
        }),
    }
}

/// Name of the kernel `name` for `dtype`.
pub(crate) fn typed(name: &str, dtype: DType) -> String {
    format!("{name}_{}", dtype.as_str())
}

impl Engine {
    /// Launches a kernel, ordered after everything launched before. An empty grid launches nothing.
    ///
    /// # Safety
    ///
    /// `arguments` is the kernel's own struct; its addresses belong to this engine and to tensors that live until the
    /// call returns; and they hold as many elements as the kernel reads or writes, no other thread using those that it
    /// writes.
    pub(crate) unsafe fn launch<A: Arguments>(
        &self,
        module: Module,
        kernel: &str,
        grid: Grid,
        arguments: &A,
    ) -> Result<()> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        match self {
            // SAFETY: passed on to the caller.
            Self::Emulator => unsafe { emulator::launch(module, kernel, grid, arguments) },
            // SAFETY: passed on to the caller.
            Self::Cuda(cuda) => unsafe { cuda.launch(module, kernel, grid, arguments) },
        }
    }
}
