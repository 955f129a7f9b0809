//! Operations of sampling, row by row on slices: no tape, no tensor, no dependence between rows.
//!
//! Training uses the fastest product of a whole batch, in its order of additions. Sampling requires more: the result of
//! a sequence must not depend on the others in its batch, to the last bit, or a run could be repeated on one machine
//! only. So here every number is a chain of fused multiply-adds in an order that its own row fixes; batching decides
//! only which rows are computed together.
//!
//! Many rows are spread over the current rayon pool, as everywhere in this crate.

mod cache;
mod delta;
mod matrix;
mod rowwise;

pub use cache::{CacheShape, KeyValueCache};
pub use delta::{DeltaState, DeltaWeights};
pub use matrix::PackedMatrix;
pub use rowwise::{Gate, add, centre, gain, gate, normalise, route, sigmoid_gate, soft_cap, turn};
