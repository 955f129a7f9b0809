//! CUDA kernels emulated on the CPU.

use crate::{Kind, OpenDevice};

/// Runs `f` with the operations of this thread on `device`. Tensors of [`Kind::Emulated`] are candle's CPU tensors; this
/// scope dispatches their operations to the emulated CUDA kernels.
pub fn on_device<T>(device: &OpenDevice, f: impl FnOnce() -> T) -> T {
    match device.kind() {
        Kind::Emulated => smpo_kernels::emulate(f),
        Kind::Cpu | Kind::Cuda(_) => f(),
    }
}
