//! Telling the base that an adapter was trained on from another of the same shapes, which PEFT's format cannot.

use candle_core::Tensor;
use half::bf16;
use sha2::{Digest, Sha256};

use crate::error::Result;

/// Rows looked at: training a model changes all of them.
const ROWS: usize = 16;

/// Digits kept of the hash.
const DIGITS: usize = 16;

/// The key of a layer's fingerprint in the metadata of an adapter's weight file.
pub(super) fn key(module: &str) -> String {
    format!("smpo.base.{module}")
}

/// A hash of some rows of a base weight (`O`, `K`), rounded to bfloat16 first: the base in bfloat16 is the same base.
pub(super) fn fingerprint(weight: &Tensor) -> Result<String> {
    let rows = weight.dim(0)?;
    let mut hash = Sha256::new();
    for index in 0..rows.min(ROWS) {
        let row = weight.get(index * rows / rows.min(ROWS))?.to_vec1::<f32>()?;
        for value in row {
            hash.update(bf16::from_f32(value).to_le_bytes());
        }
    }
    Ok(hash.finalize().iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect())
}
