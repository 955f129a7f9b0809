//! The same operations on a GPU, or on an emulator of one.
//!
//! A tensor in GPU memory takes this way by itself. So does one in host memory inside [`emulate`]: there the kernels,
//! the same `.cu` files, run on the processor, so that everything but the driver's own calls is tested on any machine.
//!
//! Elements are float32, bfloat16 or float16; sums, softmax and norms are taken in float32 whatever they are. Gradients
//! of activations have the activations' type, those of the parameters of a [`crate::Gradients`] are float32. No
//! operation uses atomic additions: on one device, results are bit-equal from run to run.
//!
//! Under everything is an [`Engine`] with four verbs: allocate, copy, launch, multiply.

mod adamw;
mod add;
mod address;
mod attention;
mod columns;
#[cfg(feature = "cuda")]
mod cuda_engine;
mod dropout;
mod embedding;
mod emulator;
mod engine;
mod gated;
mod gradients;
mod head;
mod launch;
mod linear;
mod multiply;
mod norm;
mod operand;
mod outlet;
mod rotary;
mod sums;
mod weighted_sum;

pub(crate) use adamw::{DeviceState, sums_of_squares};
pub(crate) use add::{accumulate, add, cast_into, convert};
pub(crate) use address::start_of;
pub(crate) use attention::{Plans, attention};
pub(crate) use columns::columns;
pub(crate) use dropout::dropout;
pub(crate) use embedding::embedding;
pub(crate) use engine::{Engine, engine};
pub(crate) use gated::gated;
pub(crate) use gradients::DeviceSlot;
pub(crate) use head::selected_log_probs;
pub(crate) use linear::{add_linear, linear};
pub(crate) use norm::{add_rms_norm, rms_norm};
pub(crate) use operand::floating;
pub(crate) use outlet::{Backward, Incoming, Open, Outlet, Pending};
pub(crate) use rotary::rotary;
pub(crate) use weighted_sum::weighted_sum;

use std::cell::Cell;

thread_local! {
    static EMULATING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with this crate's operations on host tensors taking the device's way on this thread, through the emulator.
/// Slow; for tests and checks. What is recorded or created inside is to be used inside.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use half::bf16;
/// let x = Tensor::new(&[[bf16::from_f32(3.0), bf16::from_f32(4.0)]], &Device::Cpu)?;
/// let sum = smpo_kernels::emulate(|| smpo_kernels::add(&x, &x))?;
/// assert_eq!(sum.to_vec2::<bf16>()?[0][1].to_f32(), 8.0);
/// # Ok::<(), smpo_kernels::KernelError>(())
/// ```
pub fn emulate<T>(f: impl FnOnce() -> T) -> T {
    with_emulating(true, f)
}

/// Runs `f` with host tensors taking the CPU's way, also inside [`emulate`].
pub(crate) fn on_host<T>(f: impl FnOnce() -> T) -> T {
    with_emulating(false, f)
}

fn with_emulating<T>(emulating: bool, f: impl FnOnce() -> T) -> T {
    /// Puts back what was, also after a panic.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            EMULATING.set(self.0);
        }
    }
    let _restore = Restore(EMULATING.replace(emulating));
    f()
}

/// Whether this thread is inside [`emulate`]. Work handed to another thread has to enter it again there.
pub fn is_emulating() -> bool {
    EMULATING.get()
}
