//! A training run from its configuration to a model directory, resumable at any step.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use smpo_data::{CheckReport, DatasetError};
use smpo_devices::{OpenDevice, on_device};
use smpo_losses::Objective;
use smpo_model::{Config, Placement};
use smpo_tokenizer::ChatTokenizer;

use crate::alarm::Alarm;
use crate::checkpoint::{self, Checkpoint, LoopState};
use crate::config::TrainConfig;
use crate::early_stopping::{Rules, StopReason};
use crate::error::TrainError;
use crate::held_out::HeldOut;
use crate::learner::Learner;
use crate::memory;
use crate::models::Models;
use crate::preflight;
use crate::probe::Probe;
use crate::record::StepRecord;
use crate::reference::ReferenceCache;
use crate::row::{self, Rows};
use crate::run_dir::RunDir;
use crate::scoring::RowLogps;
use crate::steps::Steps;
use crate::tokenizer_dir;

/// What a run tells whoever watches it. Watching decides nothing.
#[derive(Debug)]
pub enum Event<'a> {
    /// Where the run trains; told first.
    Device(&'a OpenDevice),
    /// The data was checked; not told when a run goes on.
    Checked(&'a [CheckReport]),
    /// Rows are being tokenised.
    Tokenizing {
        /// Rows so far.
        done: u64,
        /// Rows in all.
        total: u64,
    },
    /// The rows are tokenised.
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
        /// Steps taken before, by the checkpoint that the run goes on from.
        done: u64,
    },
    /// A step is done; step 0 is what was measured before training.
    Step(&'a StepRecord),
    /// Something its owner should know.
    Alarm(&'a Alarm),
    /// A checkpoint is on the disk.
    Saved(&'a Path),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Finish {
    /// `model/` is there; it was there before when `already` is set.
    Done {
        /// The model directory.
        model: PathBuf,
        /// Nothing had to be done.
        already: bool,
        /// The step whose checkpoint it is; `None` is the last step.
        of_step: Option<u64>,
        /// Why the run ended before its last step, if it did.
        stopped: Option<StopReason>,
    },
    /// Asked to stop; a checkpoint after `step` steps is on the disk.
    Stopped {
        /// Steps taken.
        step: u64,
    },
}

/// Trains, or goes on with a run that was stopped. `restart` throws an earlier run in the directory away first. When
/// `stop` becomes true, the current step is finished and saved.
///
/// # Errors
/// [`TrainError`]; whatever checkpoint was there before still is.
pub fn train(
    config: &TrainConfig,
    restart: bool,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Finish, TrainError> {
    let objective = Objective::new(config.loss.clone())?;
    let model_config = read_model_config(config)?;
    let dir = RunDir::new(&config.output_dir);
    let _lock = dir.lock()?;
    if restart {
        dir.discard()?;
    }
    dir.claim(config)?;
    if dir.model().is_dir() {
        return Ok(Finish::Done { model: dir.model(), already: true, of_step: None, stopped: None });
    }
    dir.sweep()?;
    let device = config.device.open()?;
    watch(Event::Device(&device));
    on_device(&device, || run(config, objective, &model_config, &dir, &device, stop, watch))
}

/// The run itself, in a directory that is this run's own.
fn run(
    config: &TrainConfig,
    objective: Objective,
    model_config: &Config,
    dir: &RunDir,
    device: &OpenDevice,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Finish, TrainError> {
    let tokenizer_dir = tokenizer_dir::prepare(config, &dir.tokenizer())?;
    let tokenizer = ChatTokenizer::from_model_dir(&tokenizer_dir)?;
    let resumed = checkpoint::list(&dir.checkpoints())?.pop();
    let done = resumed.as_ref().map_or(0, |checkpoint: &Checkpoint| checkpoint.step);
    let go_on = || if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    // A run that goes on was checked when it began.
    if resumed.is_none() {
        let Some(reports) = preflight::preflight(config, &tokenizer, &|_| go_on()).map_err(DatasetError::from)? else {
            return Ok(Finish::Stopped { step: done });
        };
        watch(Event::Checked(&reports));
        preflight::refuse(config, &reports)?;
    }
    let mut tokenized = |done, total| {
        watch(Event::Tokenizing { done, total });
        go_on()
    };
    let Some(loaded) = load_rows(config, &tokenizer, &mut tokenized)? else {
        return Ok(Finish::Stopped { step: done });
    };
    watch(Event::Data(&loaded));
    let Rows { train: rows, held_out, .. } = loaded;
    row::check_vocabulary(rows.iter().chain(&held_out), model_config.spec().vocab_size)?;
    memory::check(config, model_config.spec(), &rows)?;
    let probe = Probe::load(config, &tokenizer, model_config.spec().max_positions)?;

    let placement = Placement { device: device.device().clone(), dtype: config.dtype(device.kind()) };
    let models = Models::load(config, model_config, resumed.as_ref(), &placement)?;
    let (needs_reference, needs_mismatched) = (objective.needs_reference(), objective.needs_mismatched());
    let mut learner = Learner::new(models.policy.clone(), objective, config)?;
    let state = match &resumed {
        Some(checkpoint) => checkpoint.restore(&mut learner)?,
        None => LoopState::default(),
    };
    let reference = || models.reference(config, model_config, &placement);
    let mut references: [Vec<RowLogps>; 2] = Default::default();
    if needs_reference {
        for (index, rows) in [&rows, &held_out].into_iter().enumerate() {
            let cache = ReferenceCache::new(&dir.reference(), config, rows, learner.max_tokens());
            let mut scored = |done| watch(Event::Reference { done, rows: rows.len() });
            match cache.fill(rows, learner.max_tokens(), reference, stop, &mut scored)? {
                Some(found) => references[index] = found,
                None => return Ok(Finish::Stopped { step: done }),
            }
        }
    }
    if needs_mismatched {
        learner.keep_reference(reference()?);
    }
    let [references, held_out_references] = references;
    let held_out = (!held_out.is_empty()).then(|| HeldOut {
        rows: held_out,
        references: held_out_references,
        micro_batch: config.eval_batch_size(),
    });
    let mut run = Steps {
        config,
        dir,
        rows: &rows,
        references: &references,
        held_out,
        probe,
        tokenizer: &tokenizer,
        tokenizer_dir: &tokenizer_dir,
        learner,
        state,
        rules: Rules::new(config),
        not_finite: None,
    };
    run.take(resumed.map(|checkpoint| checkpoint.step), stop, watch)
}

/// The model's configuration, before anything is written for it.
pub(crate) fn read_model_config(config: &TrainConfig) -> Result<Config, TrainError> {
    let source = &config.model_name_or_path;
    if !source.is_dir() {
        let message = format!(
            "`model_name_or_path` is {}: expected a model directory, got none; a model of the Hugging Face Hub has to \
             be downloaded first (hf download NAME --local-dir DIR)",
            source.display()
        );
        return Err(TrainError::config(source, None, message));
    }
    if source.join("adapter_config.json").is_file() && !source.join("config.json").is_file() {
        let message = "`model_name_or_path` is an adapter: expected the model it adapts; give the adapter as \
                       `adapter_name_or_path` beside it"
            .to_owned();
        return Err(TrainError::config(source, None, message));
    }
    let model = Config::from_dir(source)?;
    if let Some(positions) = model.spec().max_positions.filter(|positions| config.max_length > *positions) {
        let message = format!(
            "`max_length` is {}, but {} has {positions} positions; set max_length = {positions} or less",
            config.max_length,
            source.display()
        );
        return Err(TrainError::config(&config.output_dir.join("config.toml"), None, message));
    }
    Ok(model)
}

/// The rows to train on and those that are held out: a part of the same files, or files of their own.
pub(crate) fn load_rows(
    config: &TrainConfig,
    tokenizer: &ChatTokenizer,
    done: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Option<Rows>, TrainError> {
    let Some(mut rows) = row::load(config, tokenizer, done)? else { return Ok(None) };
    if !config.eval_dataset.is_empty() {
        let files = config.eval_dataset.clone();
        let eval = TrainConfig { dataset: files, dataset_ratio: Vec::new(), dataset_sample: None, ..config.clone() };
        let Some(held_out) = row::load(&eval, tokenizer, done)? else { return Ok(None) };
        rows.truncated.prompts += held_out.truncated.prompts;
        rows.truncated.completions += held_out.truncated.completions;
        rows.bad.count += held_out.bad.count;
        rows.bad.first.extend(held_out.bad.first);
        rows.not_kept = rows.not_kept.or(held_out.not_kept);
        rows.held_out = held_out.train;
    }
    Ok(Some(rows))
}
