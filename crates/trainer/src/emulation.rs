//! The device that is none: the GPU's kernels on the processor.

use smpo_devices::{Kind, OpenDevice};

/// Runs `f` where `device` computes. Tensors of [`Kind::Emulated`] lie in the host's memory like the processor's own, so
/// that it is this scope, on this thread, which sends their operations to the GPU's kernels.
pub fn on_device<T>(device: &OpenDevice, f: impl FnOnce() -> T) -> T {
    match device.kind() {
        Kind::Emulated => smpo_kernels::emulate(f),
        Kind::Cpu | Kind::Cuda(_) => f(),
    }
}
