//! Weights on disk: safetensors files, one or many.

mod element;
mod file;
mod sharded;
mod write;

pub use element::Element;
pub(crate) use element::ElementCounts;
pub(crate) use file::WeightFile;
pub(crate) use sharded::{ShardIndex, WeightFiles};
pub(crate) use write::{StoredTensor, write_tensors};
