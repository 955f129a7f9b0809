//! Fingerprint of the weights in a directory: some spots of every tensor, since training a model changes all of them.

use std::ops::Range;
use std::path::Path;

use half::bf16;
use sha2::{Digest, Sha256};

use super::WeightFiles;
use crate::error::{ModelError, Result};

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
        let (file, stored) = files.place(name)?;
        match file.describe(stored) {
            Ok((shape, _)) => {
                hash.update(format!("{name} {shape:?}\n"));
                for spot in spots(shape.iter().product()) {
                    for value in file.read_part(stored, spot)? {
                        hash.update(bf16::from_f32(value).to_le_bytes());
                    }
                }
            }
            // Codes of few bits, and their scales.
            Err(ModelError::Dtype { .. }) => {
                let bytes = file.raw_range(stored)?.len();
                hash.update(format!("{name} {bytes}\n"));
                for spot in spots(bytes) {
                    hash.update(file.raw_part(stored, spot)?);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(smpo_files::hex(&hash.finalize()[..BYTES]))
}

/// Parts of `count` values.
fn spots(count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..SPOTS).map(move |spot| {
        let start = (spot * count / SPOTS).min(count.saturating_sub(VALUES));
        start..count.min(start + VALUES)
    })
}
