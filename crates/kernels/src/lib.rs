//! Fused, differentiable tensor operations for training and sampling a decoder: on the CPU in float32, on NVIDIA GPUs
//! (feature `cuda`) in float32, bfloat16 and float16.
//!
//! candle tensors go in and come out. Shapes are written with `N` packed tokens, `M` rows of the head, `V` vocabulary,
//! `H` width of a hidden state, `D` width of a head. Every operation has a naive twin in [`mod@naive`]; [`decode`] are
//! the forward-only operations of sampling: on the CPU on plain slices, on a device with a cache in its memory.
//!
//! # Gradients
//!
//! Each operation computes only the gradients its arguments need. [`Gradients`] collects those of named parameters in
//! place, for [`AdamW`] and across micro-batches. A forward pass on the CPU runs either in candle's graph, through which
//! candle's own backward pass goes, or on a [`Tape`], which takes less time and memory. On a GPU gradients exist on a
//! tape only: an operation with a tracked argument outside of one is refused ([`KernelError::NoTape`]).
//!
//! # Devices
//!
//! An operation runs where its first tensor is. Inside [`emulate`] tensors in host memory run through the GPU's kernels,
//! the same `.cu` files compiled as C++; [`selftest()`] compares a device, or the emulator, with the CPU.
//!
//! # Threads
//!
//! Everything on the CPU runs on the current rayon pool: `pool.install(|| …)` bounds it, and two trainings
//! can run side by side in two pools. candle's own matrix product also works in the current pool; the
//! variable `RAYON_NUM_THREADS` (read by candle and by rayon's global pool) only sets how
//! many pieces it is cut into. Small inputs stay on the calling thread.
//!
//! # Repeatability
//!
//! Work is cut into pieces by shape alone and partial sums join in a fixed order, so on one machine
//! results are bit-equal from run to run and for any number of threads. Other CPUs may have
//! other instruction sets (AVX-512, AVX2, neither) and differ by rounding, as do GPUs.
//!
//! # Modules
//!
//! Each uses only modules below it, never one beside or above; `tests/layers.rs` checks the list:
//!
//! ```text
//! selftest    every operation of a device against the CPU
//! naive       twins of the operations in plain candle
//! ops         the public operations: arguments checked, dispatched, recorded     decode    sampling
//! optim       AdamW
//! autograd    tape, candle's graph, gradients and the sinks that they go to
//! device      operations as CUDA kernels on a GPU or in the emulator
//! cpu         operations on slices: SIMD loops, matrix products, threads
//! options     options, dropout masks, packed segments
//! checks      refusals that operations share
//! error       error type
//! ```

mod autograd;
mod checks;
mod cpu;
pub mod decode;
mod device;
mod error;
pub mod naive;
mod ops;
mod optim;
mod options;
mod selftest;

pub use autograd::{Gradients, OtherGradients, Tape, Watcher, absent, drop_values, replace_values};
pub use cpu::weight::{Blocks, FourBit, FourBitType, NestedScales, PackedWeight, Scales, Weight};
pub use device::{EmulatedSchedule, emulate, emulate_scheduled, is_emulating};
pub use error::{KernelError, Result};
pub use ops::{
    AdaptedLayer, AddRmsNorm, LowRank, Routed, SelectedLogProbs, adapted_linear, adapted_linear_for_backward,
    adapted_linears, add, add_linear, add_rms_norm, attention, attention_with_sinks, clamped_swiglu, columns, combine,
    dropout, embedding, gated_delta_rule, gated_halves, geglu, linear, linear_for_backward, log_decay, rms_norm,
    rotary, route, selected_log_probs, selected_log_probs_with_entropy, selected_log_probs_with_terminators,
    short_convolution, sigmoid_gate, swiglu, weighted_sum,
};
pub use optim::{AdamW, Moment, Moments, MomentsView, Parameter, Part, StepReport};
pub use options::{
    AdamWOptions, AttentionOptions, Balance, Clamp, DeltaHeads, DrawnToken, DropoutMask, Gate, HeadOptions,
    MomentFormat, NormOptions, RotaryPairs, RouterOptions, Routing, RowEntropy, Segments, Span, TerminatorScore,
    TokenDraw,
};
pub use selftest::{Check, selftest};
