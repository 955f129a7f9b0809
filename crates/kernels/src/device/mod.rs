//! Operations as CUDA kernels on a GPU, or in an emulator of one. Nothing here records gradients.
//!
//! The operations run here for tensors in GPU memory, and inside [`emulate`] for tensors in host memory: there the
//! kernels, the same `.cu` files, run on the CPU, so that everything but the driver's own calls is tested on any machine.
//!
//! Tensors are float32, bfloat16 or float16; sums, softmax and norms are computed in float32 for every dtype. Gradients
//! of activations have the activations' dtype, those of the parameters of a [`crate::Gradients`] are float32. No
//! operation adds values atomically: on one device, results are bit-equal from run to run.
//!
//! All of it stands on an [`Engine`] with four methods: allocate, copy, launch, multiply, the last also with a bias.

pub(crate) mod adamw;
mod address;
pub(crate) mod attention;
mod attention_plan;
pub(crate) mod cached_attention;
pub(crate) mod cached_heads;
pub(crate) mod columns;
mod convert;
#[cfg(feature = "cuda")]
mod cuda_bias;
// Without the feature `cuda` the GPU's engine is a type without values.
#[cfg_attr(feature = "cuda", path = "cuda_engine.rs")]
#[cfg_attr(not(feature = "cuda"), path = "no_cuda_engine.rs")]
mod cuda_engine;
pub(crate) mod draw;
pub(crate) mod dropout;
pub(crate) mod embedding;
mod emulator;
mod engine;
// Its only callers are in the GPU's engine.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
mod fault;
pub(crate) mod four_bit;
pub(crate) mod gated;
mod grad;
pub(crate) mod head;
pub(crate) mod head_directions;
mod launch;
pub(crate) mod linear;
pub(crate) mod low_rank;
mod multiply;
pub(crate) mod norm;
mod operand;
pub(crate) mod rotary;
pub(crate) mod sums;
pub(crate) mod weighted_sum;

pub use emulator::{EmulatedSchedule, emulate_scheduled};

pub(crate) use address::start_of;
pub(crate) use convert::{accumulate, cast_into, convert, sum_into};
pub(crate) use engine::{Engine, Role};
pub(crate) use grad::DeviceGrad;
pub(crate) use operand::{Operand, check_dtype};

use std::cell::Cell;
use std::thread::LocalKey;

thread_local! {
    static EMULATING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with this crate's operations on host tensors running as CUDA kernels in the emulator, on this thread. Slow;
/// for tests and checks. Tapes, gradients and optimizers created inside are to be used inside.
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
    with(&EMULATING, true, f)
}

/// Runs `f` with operations on host tensors running on the CPU, also inside [`emulate`].
pub(crate) fn on_host<T>(f: impl FnOnce() -> T) -> T {
    with(&EMULATING, false, f)
}

/// Runs `f` with another value of a thread's own.
fn with<V: Copy + 'static, T>(own: &'static LocalKey<Cell<V>>, value: V, f: impl FnOnce() -> T) -> T {
    /// Restores the previous value, also after a panic.
    struct Restore<V: Copy + 'static>(&'static LocalKey<Cell<V>>, V);
    impl<V: Copy> Drop for Restore<V> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(own, own.replace(value));
    f()
}

/// True inside [`emulate`], on this thread alone: work handed to another thread has to enter it again there.
pub fn is_emulating() -> bool {
    EMULATING.get()
}
