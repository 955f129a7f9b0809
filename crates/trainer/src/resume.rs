//! Resuming: the rows and models of a run against those of its checkpoint.

use smpo_data::Rows;
use smpo_losses::Objective;
use smpo_model::ModelDir;

use crate::checkpoint::{Checkpoint, State};
use crate::config::{AdapterStart, Init, Reference, TrainConfig};
use crate::error::TrainError;
use crate::event::Event;
use crate::origin::Origin;
use crate::run_dir::{EarlierConfig, RunDir};

/// Treatment of an earlier run in the run directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EarlierRun {
    /// It is resumed; other rows or models than its own are refused.
    #[default]
    Resume,
    /// It is resumed; rows that have changed are taken from their beginning.
    ResumeOnNewData,
    /// It is deleted.
    Restart,
}

/// The checkpoint that a run resumes from.
pub(crate) struct Resumed {
    pub checkpoint: Checkpoint,
    pub state: State,
}

impl Resumed {
    /// Reads the state of a checkpoint.
    pub fn read(checkpoint: Checkpoint) -> Result<Self, TrainError> {
        Ok(Resumed { state: checkpoint.state()?, checkpoint })
    }
}

/// The run and the part of it that is on disk.
pub(crate) struct Resume<'a> {
    pub config: &'a TrainConfig,
    pub dir: &'a RunDir,
    pub earlier: EarlierRun,
}

impl Resume<'_> {
    /// The origin of the next step. Held-out rows that were trained on before the data changed are moved to the rows to
    /// train on.
    ///
    /// # Errors
    /// When rows or models are not those of the steps taken, unless new rows are wanted.
    pub fn origin(
        &self,
        objective: &Objective,
        rows: &mut Rows,
        resumed: Option<&Resumed>,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Origin, TrainError> {
        let Self { config, dir, earlier } = *self;
        let now = with_models(Origin::of(rows), config, objective)?;
        let Some(Resumed { checkpoint, state }) = resumed else { return Ok(now) };
        let step = checkpoint.step;
        let Some(before) = &state.origin else {
            let word = "the checkpoint is of an earlier version and does not know its data and base: they are taken to be \
                        the same";
            watch(Event::Note(word));
            return Ok(now);
        };
        let base = || config.model_name_or_path.clone();
        for (role, model, was, is) in [
            ("base model", base(), &before.base, &now.base),
            ("reference model", config.reference_dir().unwrap_or_else(base), &before.reference, &now.reference),
        ] {
            if was.is_some() && was != is {
                return Err(TrainError::OtherWeights { model, role, step });
            }
        }
        let changes = before.changed_rows(&now);
        let now = if changes.is_empty() {
            now.going_on(before)
        } else if earlier == EarlierRun::ResumeOnNewData {
            let total = config.total_steps_since(step, rows.train.len());
            if total <= step {
                return Err(TrainError::NoStepsLeft { step, total });
            }
            watch(Event::Note(&format!("new data from step {} on: {}", step + 1, changes.join("; "))));
            now.after(before, step)
        } else {
            return Err(TrainError::OtherData { dir: config.output_dir.clone(), step, changes });
        };
        let moved = if config.holds_out() { now.keep_apart(dir, rows)? } else { 0 };
        if moved > 0 {
            let word =
                format!("{moved} held-out rows were trained on before the data changed: they are trained on again");
            watch(Event::Note(&word));
        }
        Ok(now)
    }

    /// Refuses fewer steps than the run had before.
    ///
    /// # Errors
    /// [`TrainError::OtherRun`] with the keys.
    pub fn check_length(&self, before: &EarlierConfig, origin: &Origin, rows: usize) -> Result<(), TrainError> {
        let total = |config: &TrainConfig| config.total_steps_since(origin.since, rows);
        if total(self.config) < total(&before.config) {
            return Err(self.dir.other_run(before.changes.lengths.clone()));
        }
        Ok(())
    }
}

/// Adds the fingerprints of the models that a resumed run reads again.
fn with_models(mut origin: Origin, config: &TrainConfig, objective: &Objective) -> Result<Origin, TrainError> {
    let adapter = config.adapter();
    let reads_reference = objective.needs_reference() || config.teacher().is_some();
    let reference = reads_reference.then(|| config.reference());
    let base = adapter.is_some() || reference == Some(Reference::Start);
    let base = (base && config.init == Init::Pretrained).then(|| ModelDir::open(&config.model_name_or_path, None));
    origin.base = base.transpose()?.map(|dir| dir.fingerprint()).transpose()?;
    let reference = match (reference, adapter) {
        (Some(Reference::Model(dir)), _) => Some(config.open_reference(&dir)?),
        (Some(Reference::Start), Some(AdapterStart::From(dir))) => {
            Some(ModelDir::open(dir, Some(&config.model_name_or_path))?)
        }
        _ => None,
    };
    origin.reference = reference.map(|dir| dir.fingerprint()).transpose()?;
    Ok(origin)
}
