//! Fingerprints of an adapter's base model, in a file beside PEFT's two: they tell it from another base of the same
//! shapes. Other programs ignore the file.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use half::bf16;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smpo_files::FileError;

use crate::error::{ModelError, Result};
use crate::matrix::Matrix;
use crate::save::write_json;

/// Name of the file.
pub(super) const BASE_FILE: &str = "smpo_base.json";

/// Version of the file.
const SCHEMA: u32 = 1;

/// Number of rows hashed: training a model changes all of them.
const ROWS: usize = 16;

/// Length of a hash, in bytes.
const BYTES: usize = 8;

/// Fingerprints of the base's weights, by adapted layer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct BaseFingerprints {
    schema: u32,
    layers: BTreeMap<String, Fingerprint>,
}

/// Hash of some rows of a base weight (`O`, `K`), rounded to bfloat16: the base in bfloat16 is the same base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Fingerprint(String);

impl Fingerprint {
    /// Of a weight with `rows`, whose values `row` returns.
    pub fn new(rows: usize, mut row: impl FnMut(usize) -> Result<Vec<f32>>) -> Result<Self> {
        let mut hash = Sha256::new();
        for index in 0..rows.min(ROWS) {
            for value in row(index * rows / rows.min(ROWS))? {
                hash.update(bf16::from_f32(value).to_le_bytes());
            }
        }
        Ok(Self(smpo_files::hex(&hash.finalize()[..BYTES])))
    }

    /// Of a layer's weight; of packed blocks that of the weight before.
    fn of(weight: &Matrix) -> Result<Self> {
        match weight {
            Matrix::Packed(packed) => Ok(packed.fingerprint.clone()),
            Matrix::Tensor(_) => Self::new(weight.shape()?.0, |index| weight.row(index)),
        }
    }
}

impl BaseFingerprints {
    /// Reads the fingerprints beside an adapter; empty where another program wrote the adapter.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(BASE_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|source| ModelError::Json { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(FileError::at(&path, "read")(error).into()),
        }
    }

    /// Writes the fingerprints beside an adapter.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(BASE_FILE);
        let value = serde_json::to_value(self).map_err(|source| ModelError::Json { path: path.clone(), source })?;
        write_json(&path, &value)
    }

    /// Records a layer's weight.
    pub fn add(&mut self, module: &str, weight: &Matrix) -> Result<()> {
        self.schema = SCHEMA;
        self.layers.insert(module.to_string(), Fingerprint::of(weight)?);
        Ok(())
    }

    /// True if a layer's weight differs from the recorded one.
    pub fn contradict(&self, module: &str, weight: &Matrix) -> Result<bool> {
        match self.layers.get(module) {
            Some(expected) => Ok(*expected != Fingerprint::of(weight)?),
            None => Ok(false),
        }
    }
}
