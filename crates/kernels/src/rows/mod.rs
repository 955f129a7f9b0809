//! Inference on plain rows: no tape, no tensor, no allocation, and no row that knows of the others.
//!
//! Training wants the fastest product of a whole batch, and takes whatever order of additions that has. Sampling
//! wants more: what a sequence is given must not depend on which others it shares a batch with, to the last bit, or
//! a run could be repeated on one machine only. So here every number is a chain of fused multiply-adds in an order
//! that its own row fixes, and batching changes which rows are computed together and nothing else.
//!
//! Work on many rows is spread over the current rayon pool as everywhere in this crate.

mod cache;
mod matrix;
mod rowwise;

pub use cache::{CacheShape, KeyValueCache};
pub use matrix::PackedMatrix;
pub use rowwise::{Gate, add, gain, gate, normalise, soft_cap, turn};
