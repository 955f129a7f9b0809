//! Weights on disk: safetensors files, one or many.

mod absent;
mod dtype;
mod file;
mod fingerprint;
mod four_bit;
mod sharded;
mod write;

pub(crate) use dtype::DtypeCounts;
pub use dtype::WeightDtype;
pub(crate) use file::{CopiedTensor, WeightFile};
pub(crate) use fingerprint::fingerprint;
pub(crate) use sharded::{ShardIndex, WeightFiles};
pub(crate) use write::{OutputTensor, StoredTensor, write_tensors};
