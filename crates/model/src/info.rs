//! Summary of a model directory, from its configuration and the headers of its weight files.

use std::path::Path;

use crate::config::Config;
use crate::error::Result;
use crate::families::Family;
use crate::gguf::GgufWeights;
use crate::layout::{Role, Slot, layout};
use crate::memory_estimate::{Packed, StoredMatrices};
use crate::parameter::{check_names, check_tied_head};
use crate::spec::DecoderSpec;
use crate::weights::{DtypeCounts, WeightDtype, WeightFile};

/// Summary of a model directory.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Model family; of the text half, where the model is multimodal.
    pub family: Family,
    /// Class of the multimodal model around the text half.
    pub wrapper: Option<&'static str>,
    /// Number of parameters; a tied head counts once.
    pub parameters: usize,
    /// Number of parameters stored in four bits.
    pub four_bit: usize,
    /// dtypes of the other stored weights, most common first.
    pub dtypes: Vec<WeightDtype>,
    /// Types of the stored tensors where they are of a GGUF file, most common first.
    pub ggml_types: Vec<&'static str>,
    /// Size of the stored tensors, in bytes.
    pub stored_bytes: u64,
    /// Matrices as they are stored.
    pub matrices: StoredMatrices,
    /// Number of weight files.
    pub shards: usize,
    /// Context length, in tokens; `None` where the configuration has none.
    pub context: Option<usize>,
    /// Decoder specification.
    pub spec: DecoderSpec,
}

impl ModelInfo {
    /// Class of the model in transformers; with a head of labels another one than its family's.
    pub fn architecture(&self) -> &'static str {
        let labelled = self.spec.labels.and_then(|_| self.family.classifier());
        labelled.unwrap_or(self.family.architecture())
    }

    /// Reads every weight of a model directory.
    ///
    /// # Errors
    /// When one is not a finite number, a stored head differs from the embedding it is tied to, or as [`ModelInfo::read`].
    pub fn check_values(dir: impl AsRef<Path>) -> Result<()> {
        let config = Config::from_dir(dir.as_ref())?;
        let (files, _) = config.open_weights(dir.as_ref())?;
        check_tied_head(config.spec(), &files)?;
        files.check_values()
    }

    /// Reads a model directory, its weights excepted.
    ///
    /// # Errors
    /// As [`crate::Decoder::load`], except for errors in the weights' values.
    pub fn read(dir: impl AsRef<Path>) -> Result<Self> {
        let config = Config::from_dir(dir.as_ref())?;
        let (files, _) = config.open_weights(dir.as_ref())?;
        let slots = layout(config.spec());
        check_names(config.spec(), &slots, &files)?;
        let mut counts = DtypeCounts::default();
        let (mut four_bit, mut mxfp4, mut packed_bytes) = (0, 0, 0);
        for slot in &slots {
            let count = slot.shape.iter().product();
            if files.four_bit_state(&slot.name).is_some() {
                four_bit += count;
                packed_bytes += files.four_bit_bytes(&slot.name)?;
            } else if files.is_mxfp4(&slot.name) {
                mxfp4 += count;
                packed_bytes += files.mxfp4_bytes(&slot.name);
            } else {
                counts.add(files.expect(&slot.name, &slot.shape)?, count);
            }
        }
        let gguf = files.files().iter().find_map(WeightFile::gguf);
        let dtypes = counts.commonest_first();
        let packed = match gguf {
            Some(weights) => Packed::Blocks(matrix_bytes(weights, &slots)),
            None if four_bit > 0 => Packed::FourBit,
            None if mxfp4 > 0 => Packed::Mxfp4,
            None => Packed::Nothing,
        };
        Ok(Self {
            family: config.family(),
            wrapper: config.wrapper(),
            parameters: counts.total() + four_bit + mxfp4,
            four_bit: four_bit + mxfp4,
            matrices: StoredMatrices { dtype: dtypes.first().copied().unwrap_or_default(), packed },
            dtypes,
            ggml_types: gguf.map(GgufWeights::types).unwrap_or_default(),
            stored_bytes: gguf.map_or_else(|| counts.bytes() + packed_bytes as u64, GgufWeights::stored_bytes),
            shards: gguf.map_or(files.files().len(), |weights| weights.file().part_count()),
            context: config.spec().max_positions,
            spec: config.spec().clone(),
        })
    }
}

/// Bytes of a value of a GGUF file's matrices on average.
fn matrix_bytes(weights: &GgufWeights, slots: &[Slot]) -> f64 {
    let matrices = slots.iter().filter(|slot| matches!(slot.role, Role::Embedding | Role::Weight));
    let (bytes, values) = matrices.fold((0.0, 0.0), |(bytes, values), slot| {
        let count = slot.shape.iter().product::<usize>() as f64;
        let kind = weights.describe(&slot.name).map(|(_, kind)| kind.block_bytes() as f64 / kind.block_values() as f64);
        (bytes + kind.unwrap_or(4.0) * count, values + count)
    });
    bytes / f64::max(values, 1.0)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::decoder::Decoder;

    fn case_dir(case: &str) -> PathBuf {
        smpo_fixtures::golden("model", case)
    }

    #[test]
    fn a_directory_is_described_without_its_weights() {
        let info = ModelInfo::read(case_dir("gemma2")).unwrap();
        let decoder = Decoder::load(case_dir("gemma2")).unwrap();
        assert_eq!(info.parameters, decoder.parameter_count());
        assert_eq!((info.family, info.shards, info.context), (Family::Gemma2, 1, Some(128)));
        assert_eq!((info.dtypes, info.stored_bytes), (vec![WeightDtype::F32], 4 * info.parameters as u64));
    }
}
