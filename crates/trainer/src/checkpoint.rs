//! Checkpoints: everything a run needs to resume bit-identically.
//!
//! `checkpoints/step-N/` holds `model/` (a Hugging Face directory, or a PEFT adapter), `reference/` where the reference
//! follows the policy, `optimizer.safetensors` and `state.json`. It is written whole ([`smpo_files::write_dir_whole`]): a directory of that name is complete.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smpo_files::write_dir_whole;
use smpo_losses::LossState;
use smpo_model::{AdapterSaveOptions, Decoder, ModelError, SaveOptions};

use crate::alarm::Alarms;
use crate::early_stopping::EarlyStopping;
use crate::error::{TrainError, io};
use crate::learner::Learner;
use crate::loss_scale::LossScale;
use crate::moments::{self, ReadError};
use crate::origin::Origin;
use crate::probe::Targets;

const SCHEMA_VERSION: u32 = 2;

/// The file of the optimizer's moments.
const MOMENTS: &str = "optimizer.safetensors";

/// State of the loop beside the model: part of a checkpoint, so that a resumed run decides as an uninterrupted one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoopState {
    /// Best evaluation, patience, last good probe.
    #[serde(rename = "judge")]
    pub early_stopping: EarlyStopping,
    /// Alarms raised, and averages of the metrics of the others.
    pub alarms: Alarms,
    /// Steps that were skipped because something was not finite.
    pub skipped: u64,
    /// Completions after which the probe measures the terminator.
    pub probe: Targets,
}

/// `state.json`. The sampler needs no state of its own: its order is a function of seed and step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    schema: u32,
    /// Steps taken, those skipped included.
    step: u64,
    /// True if it was written because the run was interrupted, at a step without a checkpoint of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    interrupted: bool,
    /// Updates of the optimizer.
    updates: u64,
    winsor: LossState,
    /// Of float16 runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scale: Option<LossScale>,
    #[serde(rename = "memory")]
    loop_state: LoopState,
    /// Data and models of the steps; absent in checkpoints of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Place and occasion of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct After {
    /// Steps taken.
    pub step: u64,
    /// True if the run was interrupted there.
    pub interrupted: bool,
}

/// A complete checkpoint on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its directory.
    pub dir: PathBuf,
    /// Optimizer steps taken.
    pub step: u64,
}

/// The complete checkpoints of a run, oldest first.
pub(crate) fn list(checkpoints: &Path) -> Result<Vec<Checkpoint>, TrainError> {
    let entries = match fs::read_dir(checkpoints) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
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

/// Removes a checkpoint. One that is removed by halves has no longer its name.
pub(crate) fn remove(checkpoints: &Path, step: u64) -> Result<(), TrainError> {
    Ok(smpo_files::remove_dir_whole(&checkpoints.join(format!("step-{step}")))?)
}

/// Directories that a saved model refers to or copies files from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// Base model that an adapter names.
    pub base: &'a Path,
    /// Directory of tokenizer and template.
    pub tokenizer: &'a Path,
}

/// Writes the model, or its adapter where it has one, to a directory that is whole or absent.
pub(crate) fn save_model(decoder: &Decoder, dir: &Path, sources: Sources<'_>) -> Result<(), ModelError> {
    let source = Some(sources.tokenizer.to_owned());
    if decoder.lora().is_some() {
        let base_model = sources.base.display().to_string();
        return decoder.save_adapter(dir, &AdapterSaveOptions { base_model, source, ..AdapterSaveOptions::default() });
    }
    decoder.save(dir, &SaveOptions { source, ..SaveOptions::default() })
}

/// Writes a checkpoint.
///
/// # Errors
/// If a weight is not finite or a file cannot be written. Earlier checkpoints stay, the incomplete one is removed.
pub(crate) fn save(
    checkpoints: &Path,
    after: After,
    learner: &Learner,
    loop_state: &LoopState,
    origin: &Origin,
    sources: Sources<'_>,
) -> Result<PathBuf, TrainError> {
    let dir = checkpoints.join(format!("step-{}", after.step));
    if smpo_files::is_dir(&dir)? {
        return Ok(dir); // the same step of the same run: already whole
    }
    learner.check_finite(after.step)?;
    write_dir_whole(&dir, |staging| fill(staging, after, learner, loop_state, origin, sources))?;
    Ok(dir)
}

fn fill(
    partial: &Path,
    After { step, interrupted }: After,
    learner: &Learner,
    loop_state: &LoopState,
    origin: &Origin,
    sources: Sources<'_>,
) -> Result<(), TrainError> {
    save_model(learner.decoder(), &partial.join("model"), sources)?;
    if let Some(reference) = learner.following_reference() {
        reference.save(partial.join("reference"), &SaveOptions::default())?;
    }
    learner.moments().write(&partial.join(MOMENTS))?;
    let state = State {
        schema: SCHEMA_VERSION,
        step,
        interrupted,
        updates: learner.optimizer().steps(),
        winsor: learner.winsor().clone(),
        loss_scale: learner.loss_scale(),
        loop_state: loop_state.clone(),
        origin: Some(origin.clone()),
    };
    let state = serde_json::to_vec_pretty(&state).map_err(std::io::Error::from);
    write(&partial.join("state.json"), &state.map_err(io(partial, "describe"))?)
}

/// Makes a checkpoint's model the run's result: copied under another name, synced and renamed.
pub(crate) fn copy_model(from: &Path, to: &Path) -> Result<(), TrainError> {
    write_dir_whole(to, |staging| {
        for entry in fs::read_dir(from).map_err(io(from, "list"))? {
            let entry = entry.map_err(io(from, "list"))?;
            let target = staging.join(entry.file_name());
            smpo_files::copy(&entry.path(), &target)?;
        }
        Ok(())
    })
}

impl Checkpoint {
    /// The model directory, or the adapter's.
    pub(crate) fn model(&self) -> PathBuf {
        self.dir.join("model")
    }

    /// The directory of a reference that follows the policy.
    pub(crate) fn reference(&self) -> PathBuf {
        self.dir.join("reference")
    }

    fn damaged(&self, reason: impl ToString) -> TrainError {
        TrainError::Checkpoint { dir: self.dir.clone(), reason: reason.to_string() }
    }

    /// Damage if files are missing or changed; a device or I/O error stays one.
    pub(crate) fn unreadable(&self, error: ModelError) -> TrainError {
        match &error {
            ModelError::Io(io) if io.source.kind() != ErrorKind::NotFound => error.into(),
            ModelError::Tensor(_) | ModelError::Kernel(_) | ModelError::Peers(_) => error.into(),
            // The base is another one, the checkpoint is whole.
            ModelError::OtherBase { .. } => error.into(),
            _ => self.damaged(error),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, TrainError> {
        let path = self.dir.join(name);
        fs::read(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.damaged(format!("{name} is missing")),
            _ => io(&path, "read")(error),
        })
    }

    /// True if an interruption left it; a damaged one is not known to be.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.state().is_ok_and(|state| state.interrupted)
    }

    /// Reads `state.json`.
    pub(crate) fn state(&self) -> Result<State, TrainError> {
        let damaged = |reason: String| self.damaged(reason);
        let state = self.read("state.json")?;
        let state: State = serde_json::from_slice(&state).map_err(|error| damaged(format!("state.json: {error}")))?;
        if state.schema != SCHEMA_VERSION {
            return Err(damaged(format!("state.json: expected schema {SCHEMA_VERSION}, got {}", state.schema)));
        }
        Ok(state)
    }

    /// Restores optimizer, winsor window and loss scale; returns the state of the loop.
    /// Evaluations of other held-out rows than those of `origin` are forgotten.
    pub(crate) fn restore(
        &self,
        state: State,
        learner: &mut Learner,
        origin: &Origin,
    ) -> Result<LoopState, TrainError> {
        let damaged = |reason: String| self.damaged(reason);
        let moments = moments::read(&self.dir.join(MOMENTS), learner.optimizer()).map_err(|error| match error {
            ReadError::Damaged(reason) => damaged(format!("{MOMENTS}: {reason}")),
            ReadError::Io(source) => io(&self.dir.join(MOMENTS), "read")(source),
        })?;
        learner.optimizer_mut().restore(state.updates, moments).map_err(|error| damaged(error.to_string()))?;
        learner.set_winsor(state.winsor);
        // A run that resumes in float16 after another device's float32 starts with a fresh scale.
        learner.set_loss_scale(learner.loss_scale().map(|fresh| state.loss_scale.unwrap_or(fresh)));
        let mut loop_state = state.loop_state;
        if state.origin.is_some_and(|before| before.holds_out_others(origin)) {
            loop_state.early_stopping.compare_anew();
        }
        Ok(loop_state)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    fs::write(path, bytes).map_err(io(path, "write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_checkpoints_count() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["step-10", "step-9", ".step-11.partial", "step-x", "notes"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let found = list(dir.path()).unwrap();
        assert_eq!(found.iter().map(|checkpoint| checkpoint.step).collect::<Vec<_>>(), [9, 10]);
        assert!(list(&dir.path().join("absent")).unwrap().is_empty());
    }
}
