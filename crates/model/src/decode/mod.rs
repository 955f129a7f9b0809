//! Decoding with a key–value cache, step by step: on the CPU by a packed copy of the model to logits (V), on a device by the
//! model itself to a token that is drawn there.
//!
//! `smpo_native` runs the batches; `smpo_sampling` draws from the CPU's logits, and records the draws of both.

mod device;
mod low_rank;
mod packed;
mod step;

pub use device::{DeviceDecoder, DeviceFeed, DeviceSequence, SequenceCache};
pub use packed::PackedDecoder;
pub use step::{Feed, Scratch, Sequence};
