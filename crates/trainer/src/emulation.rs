//! Emulated device: the GPU kernels on the CPU.

use smpo_devices::{Kind, OpenDevice};

/// Runs `f` on `device`. Tensors of [`Kind::Emulated`] lie in the host's memory like those of the CPU: this scope, on this
/// thread, dispatches their operations to the GPU kernels.
pub fn on_device<T>(device: &OpenDevice, f: impl FnOnce() -> T) -> T {
    match device.kind() {
        Kind::Emulated => smpo_kernels::emulate(f),
        Kind::Cpu | Kind::Cuda(_) => f(),
    }
}
