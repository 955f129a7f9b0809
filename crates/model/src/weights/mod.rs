//! Weights on disk: safetensors files, one or many.

mod element;
mod file;
mod sharded;
mod write;

use std::fs::File;
use std::path::Path;

pub use element::Element;
pub(crate) use element::ElementCounts;
pub(crate) use file::WeightFile;
pub(crate) use sharded::{ShardIndex, WeightFiles};
pub(crate) use write::{StoredTensor, write_tensors};

use crate::error::{ModelError, Result};

/// Waits until a written file or directory is on the disk.
pub(crate) fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|f| f.sync_all()).map_err(ModelError::io(path))
}
