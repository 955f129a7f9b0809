//! Weights on disk: safetensors files, one or many.

mod absent;
mod around;
mod dtype;
mod file;
mod fingerprint;
mod four_bit;
mod mxfp4;
mod sharded;
mod stacked;
mod write;
mod write_checked;
mod write_stacked;

pub(crate) use dtype::DtypeCounts;
pub use dtype::WeightDtype;
pub(crate) use file::{CopiedTensor, WeightFile};
pub(crate) use fingerprint::fingerprint;
pub(crate) use mxfp4::BITS as MXFP4_BITS;
pub(crate) use sharded::{ShardIndex, WeightFiles};
pub(crate) use write::{OutputTensor, StoredTensor, write_tensors};
pub(crate) use write_stacked::{OutputValues, Stacked, stack_experts};
