//! Checkpoints: everything a run needs to go on as if it had never stopped.
//!
//! `checkpoints/step-N/` holds `model/` (a Hugging Face directory), `optimizer.safetensors` and `state.json`. It is
//! written under another name, flushed and renamed: a directory of that name is whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use smpo_kernels::Moments;
use smpo_losses::WinsorState;
use smpo_model::{Decoder, SaveOptions};

use crate::error::{TrainError, io};
use crate::learner::Learner;

const SCHEMA_VERSION: u32 = 1;

/// `state.json`. The sampler needs no state of its own: its order is a function of seed and step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    schema: u32,
    /// Optimizer steps taken.
    step: u64,
    winsor: WinsorState,
}

/// A whole checkpoint on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its directory.
    pub dir: PathBuf,
    /// Optimizer steps taken.
    pub step: u64,
}

/// The checkpoints of a run, oldest first; what was not finished is no checkpoint.
pub(crate) fn list(checkpoints: &Path) -> Result<Vec<Checkpoint>, TrainError> {
    let entries = match fs::read_dir(checkpoints) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(TrainError::Io { path: checkpoints.to_owned(), action: "list", source }),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io(checkpoints, "list"))?;
        let step = entry.file_name().to_str().and_then(|name| name.strip_prefix("step-")?.parse().ok());
        if let Some(step) = step {
            found.push(Checkpoint { dir: entry.path(), step });
        }
    }
    found.sort_by_key(|checkpoint| checkpoint.step);
    Ok(found)
}

/// Which checkpoints to delete so that the newest `keep` remain.
pub(crate) fn superseded(checkpoints: &[Checkpoint], keep: usize) -> &[Checkpoint] {
    &checkpoints[..checkpoints.len().saturating_sub(keep)]
}

/// Writes the checkpoint after `step` steps. `source` is the model directory that tokenizer and template come from.
pub(crate) fn save(checkpoints: &Path, step: u64, learner: &Learner, source: &Path) -> Result<PathBuf, TrainError> {
    let dir = checkpoints.join(format!("step-{step}"));
    if dir.is_dir() {
        return Ok(dir); // the same step of the same run: already whole
    }
    let partial = checkpoints.join(format!(".step-{step}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(io(&partial, "remove"))?;
    }
    fs::create_dir_all(&partial).map_err(io(&partial, "create"))?;
    let options = SaveOptions { source: Some(source.to_owned()), ..SaveOptions::default() };
    learner.decoder().save(partial.join("model"), &options)?;
    write(&partial.join("optimizer.safetensors"), &moments_to_bytes(learner)?)?;
    let state = State { schema: SCHEMA_VERSION, step, winsor: learner.winsor().clone() };
    let state = serde_json::to_vec_pretty(&state).map_err(std::io::Error::from);
    write(&partial.join("state.json"), &state.map_err(io(&partial, "describe"))?)?;
    sync(&partial)?;
    fs::rename(&partial, &dir).map_err(io(&dir, "create"))?;
    sync(checkpoints)?;
    Ok(dir)
}

impl Checkpoint {
    /// The model as it was.
    pub(crate) fn decoder(&self) -> Result<Decoder, TrainError> {
        Ok(Decoder::load(self.dir.join("model"))?)
    }

    /// Puts optimizer and winsor window back.
    pub(crate) fn restore(&self, learner: &mut Learner) -> Result<(), TrainError> {
        let damaged = |reason: String| TrainError::Checkpoint { dir: self.dir.clone(), reason };
        let path = self.dir.join("state.json");
        let state = fs::read(&path).map_err(io(&path, "read"))?;
        let state: State = serde_json::from_slice(&state).map_err(|error| damaged(format!("state.json: {error}")))?;
        if state.schema != SCHEMA_VERSION {
            return Err(damaged(format!("state.json: expected schema {SCHEMA_VERSION}, got {}", state.schema)));
        }
        let path = self.dir.join("optimizer.safetensors");
        let bytes = fs::read(&path).map_err(io(&path, "read"))?;
        let moments =
            moments_from_bytes(&bytes).map_err(|reason| damaged(format!("optimizer.safetensors: {reason}")))?;
        learner.optimizer_mut().restore(state.step, moments).map_err(|error| damaged(error.to_string()))?;
        learner.set_winsor(state.winsor);
        Ok(())
    }
}

const FIRST: &str = ".first_moment";
const SECOND: &str = ".second_moment";

fn moments_to_bytes(learner: &Learner) -> Result<Vec<u8>, TrainError> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for moments in learner.optimizer().moments() {
        for (suffix, values) in [(FIRST, moments.first), (SECOND, moments.second)] {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((format!("{}{suffix}", moments.name), moments.shape.to_vec(), bytes));
        }
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    views.and_then(|views| safetensors::serialize(views, None)).map_err(|error| TrainError::Checkpoint {
        dir: PathBuf::from("optimizer.safetensors"),
        reason: error.to_string(),
    })
}

fn moments_from_bytes(bytes: &[u8]) -> Result<Vec<Moments>, String> {
    let stored = safetensors::SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
    for (name, view) in stored.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("{name}: expected F32, got {:?}", view.dtype()));
        }
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if let Some(parameter) = name.strip_suffix(FIRST) {
            first.insert(parameter.to_owned(), values);
        } else if let Some(parameter) = name.strip_suffix(SECOND) {
            second.insert(parameter.to_owned(), values);
        } else {
            return Err(format!("{name}: expected a name that ends in {FIRST} or {SECOND}"));
        }
    }
    if let Some(name) = second.keys().find(|name| !first.contains_key(*name)) {
        return Err(format!("{name}: its first moment is missing"));
    }
    first
        .into_iter()
        .map(|(name, first)| match second.remove(&name) {
            Some(second) => Ok(Moments { name, first, second }),
            None => Err(format!("{name}: its second moment is missing")),
        })
        .collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    fs::write(path, bytes).map_err(io(path, "write"))?;
    sync(path)
}

fn sync(path: &Path) -> Result<(), TrainError> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(io(path, "flush"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_checkpoints_count_and_the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["step-10", "step-9", ".step-11.partial", "step-x", "notes"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let found = list(dir.path()).unwrap();
        assert_eq!(found.iter().map(|checkpoint| checkpoint.step).collect::<Vec<_>>(), [9, 10]);
        assert_eq!(superseded(&found, 1), &found[..1]);
        assert!(superseded(&found, 5).is_empty());
        assert!(list(&dir.path().join("absent")).unwrap().is_empty());
    }
}
