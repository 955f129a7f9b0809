//! Decoding with a key–value cache: logits (V) after the tokens that a sequence was fed, step by step.
//!
//! Drawing tokens from them is not part of this crate: `smpo_native` runs the batches, `smpo_sampling` draws.

mod low_rank;
mod packed;
mod step;

pub use packed::PackedDecoder;
pub use step::{Feed, Scratch, Sequence};
