//! Softmax attention over packed [`Segments`], block by block.
//!
//! The forward pass works on blocks of queries by blocks of keys with a running maximum and sum
//! (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention-2, arXiv 2307.08691) and keeps one
//! log-sum-exp a row. The backward pass recomputes each block's weights from it. Memory beyond
//! inputs and outputs is some blocks a thread; nothing of size N × N exists.

mod backward;
mod blocks;
mod forward;

pub(crate) use backward::{BackwardInput, backward, sink_gradient};
pub(crate) use forward::{Output, forward};

use crate::options::{AttentionOptions, Extents, Segments};

/// One call: what both directions read, row-major.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    pub(crate) extents: Extents,
    pub(crate) segments: &'a Segments,
    pub(crate) options: AttentionOptions,
    /// (N, Hq, D).
    pub(crate) q: &'a [f32],
    /// (N, Hkv, D).
    pub(crate) k: &'a [f32],
    /// (N, Hkv, D).
    pub(crate) v: &'a [f32],
    /// Logit of each query head without a value, (Hq).
    pub(crate) sinks: Option<&'a [f32]>,
}
