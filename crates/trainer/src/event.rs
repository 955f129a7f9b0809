//! Events of a run for its observers, and its outcome.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smpo_data::{CheckReport, FileProgress, Rows};
use smpo_devices::OpenDevice;

use crate::alarm::Alarm;
use crate::early_stopping::StopReason;
use crate::record::StepRecord;

/// An event of a run. Observers change nothing.
#[derive(Debug)]
pub enum Event<'a> {
    /// The device of the run; the first event.
    Device(&'a OpenDevice),
    /// A remark: what a resumed run was changed in, the reference.
    Note(&'a str),
    /// A data file is being parsed, checked and tokenised; absent for files in the token cache.
    Reading(FileProgress<'a>),
    /// The data check is done; absent in a resumed run.
    Checked(&'a [CheckReport]),
    /// The rows are drawn.
    Data(&'a Rows),
    /// The reference model scores the rows.
    Reference {
        /// Rows done.
        done: usize,
        /// All rows.
        rows: usize,
    },
    /// The first step is next.
    Started {
        /// Steps of the whole run.
        total_steps: u64,
        /// Steps of the checkpoint that the run resumes from.
        done: u64,
    },
    /// A step is done; step 0 holds the evaluation before training.
    Step(&'a StepRecord),
    /// An alarm was raised.
    Alarm(&'a Alarm),
    /// A checkpoint was written.
    Saved(&'a Path),
}

/// Outcome of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Finish {
    /// `model/` is there.
    Done {
        /// The model directory.
        model: PathBuf,
        /// True if the run was finished before; nothing was done.
        already: bool,
        /// The step whose checkpoint became the model; `None` for the last step.
        of_step: Option<u64>,
        /// The reason to end before the last step, if the run did.
        stopped: Option<StopReason>,
    },
    /// Interrupted; the run resumes from the checkpoint of `step`.
    Stopped {
        /// Steps taken.
        step: u64,
    },
}

impl Finish {
    /// The outcome for programs: `model` is null if the run was interrupted, `step` is that of the interruption or of the
    /// model's checkpoint, null for the last step.
    pub fn json(&self) -> Value {
        let (model, step, stopped, already) = match self {
            Finish::Done { model, already, of_step, stopped } => {
                (Some(model.display().to_string()), *of_step, stopped.map(|reason| reason.to_string()), *already)
            }
            Finish::Stopped { step } => (None, Some(*step), None, false),
        };
        json!({"schema": 1, "model": model, "step": step, "stopped": stopped, "already": already})
    }
}
