//! Fused, differentiable tensor operations for training a decoder on the CPU in float32.
//!
//! candle tensors go in and come out, and candle's own backward pass runs through them. Shapes are
//! written with `N` packed tokens, `M` rows of the head, `V` vocabulary, `H` width of a hidden
//! state, `D` width of a head. Every operation has a naive twin in [`mod@reference`].
//!
//! [`rows`] are the forward-only operations of sampling, on plain slices.
//!
//! # Threads
//!
//! Everything runs on the current rayon pool: `pool.install(|| …)` bounds it, and two trainings
//! can run side by side in two pools. candle's own matrix product also works in the current pool; the
//! variable `RAYON_NUM_THREADS` (read by candle and by rayon's global pool) only sets how
//! many pieces it is cut into. Small inputs stay on the calling thread.
//!
//! # Repeatability
//!
//! Work is cut into pieces by shape alone and partial sums join in a fixed order, so on one machine
//! results are bit-equal from run to run and for any number of threads. Other processors may have
//! other instruction sets (AVX-512, AVX2, neither) and differ by rounding.
//!
//! # Gradients
//!
//! Each operation computes only the gradients its arguments need. [`Gradients`] collects those of
//! named parameters in place, for [`AdamW`] and across micro-batches. A forward pass runs either in
//! candle's graph, which candle's own backward pass understands, or on a [`Tape`], which needs less
//! time and memory.

mod adamw;
mod add;
mod attention;
mod columns;
mod dense;
mod device;
mod dropout;
mod embedding;
mod error;
mod gated;
mod gradients;
mod graph;
mod head;
mod linear;
mod matmul;
mod norm;
mod outlet;
mod parallel;
pub mod reference;
mod rotary;
pub mod rows;
mod segments;
mod selftest;
mod simd;
mod tape;
mod untouched;
mod weighted_sum;

pub use adamw::{AdamW, AdamWOptions, Moments, MomentsView, Parameter, StepReport};
pub use add::add;
pub use attention::{AttentionOptions, attention};
pub use columns::columns;
pub use device::{emulate, is_emulating};
pub use dropout::{DropoutMask, dropout};
pub use embedding::embedding;
pub use error::{KernelError, Result};
pub use gated::{geglu, swiglu};
pub use gradients::Gradients;
pub use head::{
    HeadOptions, SelectedLogProbs, TerminatorStanding, selected_log_probs, selected_log_probs_with_terminators,
};
pub use linear::{add_linear, linear, linear_for_backward};
pub use norm::{AddRmsNorm, NormOptions, add_rms_norm, rms_norm};
pub use rotary::rotary;
pub use segments::{Segments, Span};
pub use selftest::{Check, selftest};
pub use tape::{OtherGradients, Tape};
pub use weighted_sum::weighted_sum;
