//! Log-probs of all rows under the reference model: computed once, kept in the run directory, resumable.
//!
//! `reference/<key>-<n>.safetensors` holds a block of rows. The key is a hash of everything the values depend on, so
//! a block of other rows or of another model is never found; a block is written under another name and renamed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use smpo_data::{Row, TokenizedCompletion};
use smpo_devices::Kind;
use smpo_model::Decoder;

use crate::config::TrainConfig;
use crate::error::{TrainError, io};
use crate::origin::Origin;
use crate::scoring::{RowLogps, Scorer};

/// Rows of a block: the most that an interruption loses.
const BLOCK: usize = 256;

/// Cached log-probs of some rows.
pub(crate) struct ReferenceCache {
    dir: PathBuf,
    key: String,
}

impl ReferenceCache {
    /// Names the cache of `rows` under a configuration's reference model on a kind of device, with the fingerprints of
    /// `origin`.
    pub(crate) fn new(
        dir: &Path,
        config: &TrainConfig,
        kind: Kind,
        origin: &Origin,
        rows: &[Row],
        max_tokens: usize,
    ) -> Self {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(format!("{:?} {} {max_tokens}", config.init, config.seed).as_bytes());
        // only where it is quantised, so that other blocks keep the key that earlier releases gave them
        if config.load_in_4bit {
            add(format!("{:?}", config.storage()).as_bytes());
        }
        // only where it is not the CPU's float32, for the same reason: another GPU of the same kind rounds alike
        let device = match kind {
            Kind::Cpu => None,
            Kind::Cuda(_) => Some("cuda"),
            Kind::Emulated => Some("emulated"),
        };
        if let Some(device) = device {
            add(format!("{device} {}", config.dtype(kind).name()).as_bytes());
        }
        for model in [&origin.base, &origin.reference] {
            add(model.as_deref().unwrap_or_default().as_bytes());
        }
        for row in rows {
            let sides =
                [&row.chosen, &row.rejected].map(|side| side.as_ref().map_or(&[][..], TokenizedCompletion::ids));
            for ids in [&row.prompt, sides[0], sides[1]] {
                add(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
            }
            for scored in &row.group {
                add(&scored.completion.ids().iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
            }
            // only where some tokens are context, so that blocks of other rows keep the key that earlier releases gave them
            for side in row.completions().filter(|side| side.len() < side.ids().len()) {
                add(format!("{:?}", side.scored()).as_bytes());
            }
        }
        let key = smpo_files::hex(&hash.finalize()[..8]);
        ReferenceCache { dir: dir.to_owned(), key }
    }

    /// Log-probs of all rows; `None` if `stop` became true. `reference` loads the model if a block is missing; `watch` is
    /// called with the number of rows done.
    pub(crate) fn fill(
        &self,
        rows: &[Row],
        scorer: &Scorer<'_>,
        reference: impl Fn() -> Result<Decoder, TrainError>,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(usize),
    ) -> Result<Option<Vec<RowLogps>>, TrainError> {
        let mut all = Vec::with_capacity(rows.len());
        let mut model: Option<Decoder> = None;
        for (index, block) in rows.chunks(BLOCK).enumerate() {
            let path = self.dir.join(format!("{}-{index}.safetensors", self.key));
            let found = read(&path, block);
            // Every rank reads the same files, unless the file system is slow to show one.
            if !scorer.ranks.any(found.is_none())? {
                all.extend(found.into_iter().flatten());
                continue;
            }
            if scorer.ranks.any(stop.load(Ordering::SeqCst))? {
                return Ok(None);
            }
            watch(all.len());
            let decoder = match &model {
                Some(model) => model,
                None => model.insert(reference()?),
            };
            let computed = scorer.score(decoder, &block.iter().collect::<Vec<_>>())?;
            scorer.ranks.lead(|| write(&path, &computed))?;
            all.extend(computed);
        }
        watch(all.len());
        Ok(Some(all))
    }
}

fn sides(row: &RowLogps) -> impl Iterator<Item = &f64> {
    row.chosen.iter().chain(&row.rejected).chain(&row.group).flatten()
}

/// One vector: row after row, chosen before rejected and those of a group in order, cut by the lengths of the rows.
fn write(path: &Path, block: &[RowLogps]) -> Result<(), TrainError> {
    let other = |error: safetensors::SafeTensorError| io(path, "write")(std::io::Error::other(error));
    // The model gives float32.
    let bytes: Vec<u8> = block.iter().flat_map(sides).flat_map(|value| (*value as f32).to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], &bytes).map_err(other)?;
    let file = safetensors::serialize([("logps", view)], None).map_err(other)?;
    Ok(smpo_files::write_whole(path, &file)?)
}

/// A complete block; any other file counts as absent.
fn read(path: &Path, rows: &[Row]) -> Option<Vec<RowLogps>> {
    let bytes = fs::read(path).ok()?;
    let file = safetensors::SafeTensors::deserialize(&bytes).ok()?;
    let view = file.tensor("logps").ok().filter(|view| view.dtype() == Dtype::F32)?;
    let mut values = view.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    let mut take = |completion: &TokenizedCompletion| -> Option<Vec<f64>> {
        let logps: Vec<f64> = values.by_ref().take(completion.len()).collect();
        (logps.len() == completion.len()).then_some(logps)
    };
    let mut block = Vec::with_capacity(rows.len());
    for row in rows {
        let mut side = |side: &Option<TokenizedCompletion>| match side {
            Some(completion) => take(completion).map(Some),
            None => Some(None),
        };
        let (chosen, rejected) = (side(&row.chosen)?, side(&row.rejected)?);
        let group = row.group.iter().map(|scored| take(&scored.completion)).collect::<Option<_>>()?;
        block.push(RowLogps { chosen, rejected, group, ..RowLogps::default() });
    }
    values.next().is_none().then_some(block)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use smpo_data::Rows;
    use smpo_losses::Loss;

    use super::*;

    #[test]
    fn blocks_of_another_dtype_or_kind_of_device_are_not_found() {
        let config = |bf16: bool, fp16: bool| {
            let builder = TrainConfig::builder(Loss::Dpo(Default::default())).model("m").output_dir("o");
            builder.train_files(["d"]).learning_rate(1e-5).bf16(bf16).fp16(fp16).build().unwrap()
        };
        let origin = Origin::of(&Rows::default());
        let key = |config: &TrainConfig, kind| ReferenceCache::new(Path::new("r"), config, kind, &origin, &[], 64).key;
        let (single, half, bfloat) = (config(false, false), config(false, true), config(true, false));
        let mut keys = BTreeSet::new();
        for kind in [Kind::Cuda(0), Kind::Emulated] {
            keys.extend([&single, &half, &bfloat].map(|config| key(config, kind)));
        }
        keys.insert(key(&single, Kind::Cpu));
        assert_eq!(keys.len(), 7, "{keys:?}");
        // The CPU computes in float32, whatever is asked for; one card is as good as another of its kind.
        assert_eq!(key(&bfloat, Kind::Cpu), key(&single, Kind::Cpu));
        assert_eq!(key(&bfloat, Kind::Cuda(1)), key(&bfloat, Kind::Cuda(0)));
    }
}
