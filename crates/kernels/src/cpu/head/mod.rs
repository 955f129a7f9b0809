//! The language-model head and the log-probability of one token a row, fused.
//!
//! Logits exist for one tile (some rows by some of the vocabulary) a thread at a time, in both
//! passes; what is kept is a log-sum-exp a row. With w = ∂L/∂ℓ the backward pass recomputes a tile
//! and adds w·(onehot − softmax) through to hidden states and head weight (Cut Cross-Entropy,
//! arXiv 2411.09009; Liger Kernel, arXiv 2410.10989). Rows with w = 0 cost nothing. With a frozen weight the forward
//! pass computes the direction of each row's gradient, and the backward pass only scales it.

mod backward;
mod forward;

use super::weight::Elements;

pub(crate) use backward::{Backward, scale_directions};
pub(crate) use forward::{Output, forward};

use crate::options::RowEntropy;

/// Vocabulary entries of one tile.
const TILE: usize = 512;

/// Extents and options of one call.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    /// H.
    pub(crate) width: usize,
    /// V.
    pub(crate) vocabulary: usize,
    pub(crate) soft_cap: Option<f32>,
    /// Rows of a tile.
    pub(crate) chunk: usize,
}

impl Head {
    fn tiles(&self) -> usize {
        self.vocabulary.div_ceil(TILE)
    }

    /// Vocabulary entries of tile `index`.
    fn tile(&self, index: usize) -> std::ops::Range<usize> {
        index * TILE..((index + 1) * TILE).min(self.vocabulary)
    }

    /// Tiles of group `index` of `groups`: groups depend on the vocabulary alone.
    fn group(&self, index: usize, groups: usize) -> std::ops::Range<usize> {
        let tiles = self.tiles();
        index * tiles / groups..(index + 1) * tiles / groups
    }

    /// ∂capped/∂logit at a capped logit; 1 without a cap.
    fn cap_derivative(&self, capped: f32) -> f32 {
        self.soft_cap.map_or(1.0, |cap| 1.0 - (capped / cap).powi(2))
    }
}

/// Numbers of each row beside the log-probability of its target.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extras<'a> {
    /// May be empty.
    pub(crate) terminators: &'a [u32],
    pub(crate) entropy: Option<RowEntropy>,
}

/// Inputs of one call, row-major.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) head: Head,
    /// (M, H).
    pub(crate) hidden: &'a [f32],
    /// (V, H).
    pub(crate) weight: Elements<'a>,
    /// (M).
    pub(crate) targets: &'a [u32],
}

impl Inputs<'_> {
    /// Row `index` of the weight.
    fn entry<'s>(&'s self, index: u32, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        let start = index as usize * self.head.width;
        self.weight.part(start..start + self.head.width, scratch)
    }
}
