//! Operations of sampling, row by row on slices: no tape, no tensor, no dependence between rows.
//!
//! Training uses the fastest product of a whole batch, in its order of additions. Sampling requires more: the result of
//! a sequence must not depend on the others in its batch, to the last bit, or a run could be repeated on one machine
//! only. So here every number is a chain of fused multiply-adds in an order that its own row fixes; batching decides
//! only which rows are computed together.
//!
//! Many rows are spread over the current rayon pool, as everywhere in this crate.
//!
//! On a device a step is a forward pass of the training's own operations on tensors, but for attention: [`DeviceCache`]
//! holds keys and values, [`device_logits`] and [`device_draw()`] end the step. Where a model's projections of one input are
//! stacked, [`DeviceCache::write_stacked`] and [`gated_halves`](crate::gated_halves) take their product apart, one launch each. Attention
//! and draw keep to the rule above; cuBLAS' products may not, whose order of additions depends on the number of rows.

mod cache;
mod delta;
mod device_cache;
mod device_draw;
mod matrix;
mod rowwise;

pub use crate::device::cached_heads::StackedHeads;
pub use cache::{CacheShape, KeyValueCache};
pub use delta::{DeltaState, DeltaWeights};
pub use device_cache::{CachePlaces, CachedQueries, CachedSequence, DeviceCache};
pub use device_draw::{device_draw, device_logits};
pub use matrix::PackedMatrix;
pub use rowwise::{add, centre, gain, gate, normalise, route, sigmoid_gate, soft_cap, turn};
