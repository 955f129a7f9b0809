//! Fingerprint of the weights in a directory: some spots of every tensor, since training a model changes all of them.

use std::path::Path;

use half::bf16;
use sha2::{Digest, Sha256};

use super::WeightFiles;
use crate::error::Result;

/// Spots of a tensor that are hashed.
const SPOTS: usize = 16;

/// Values of a spot.
const VALUES: usize = 64;

/// Length of a fingerprint, in bytes.
const BYTES: usize = 16;

/// Fingerprint of `<stem>.safetensors`, or of its shards: the same for the same weights in bfloat16.
///
/// # Errors
/// When a file is missing or damaged.
pub(crate) fn fingerprint(dir: &Path, stem: &str) -> Result<String> {
    let files = WeightFiles::open(dir, stem)?;
    let mut hash = Sha256::new();
    for name in files.names() {
        let Some(file) = files.file_of(name) else { continue };
        let (shape, _) = file.describe(name)?;
        hash.update(format!("{name} {shape:?}\n"));
        let values = shape.iter().product::<usize>();
        for spot in 0..SPOTS {
            let start = (spot * values / SPOTS).min(values.saturating_sub(VALUES));
            for value in file.read_part(name, start..values.min(start + VALUES))? {
                hash.update(bf16::from_f32(value).to_le_bytes());
            }
        }
    }
    Ok(smpo_files::hex(&hash.finalize()[..BYTES]))
}
