//! Operations on float32 slices in host memory, and the loops they share. Nothing here records gradients.

pub(crate) mod adamw;
pub(crate) mod add;
pub(crate) mod attention;
mod buffer;
pub(crate) mod delta;
mod dense;
pub(crate) mod embedding;
pub(crate) mod experts;
pub(crate) mod gated;
pub(crate) mod head;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod parallel;
pub(crate) mod product;
pub(crate) mod rotary;
pub(crate) mod short_convolution;
pub(crate) mod simd;
pub(crate) mod weight;
pub(crate) mod zero_blocks;

pub(crate) use buffer::GradBuffer;
pub(crate) use dense::{Dense, Recompute, Slice};
