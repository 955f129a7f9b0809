//! A run up to its first step: configuration, data and memory are checked, nothing is trained.

mod report;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use smpo_data::{CheckReport, DegenerateGroups, Rows, TruncatedRows, UnfinishedCompletions};
use smpo_losses::Objective;
use smpo_model::{Config, ModelInfo};

use crate::checkpoint;
use crate::config::{DataCheck, Init, TrainConfig};
use crate::data;
use crate::error::{TrainError, io};
use crate::event::Event;
use crate::labels;
use crate::memory::{self, MemoryPlan};
use crate::memory_budget::MemoryBudget;
use crate::origin::Origin;
use crate::preflight;
use crate::probe::Probe;
use crate::prompt;
use crate::resume::{EarlierRun, Resume, Resumed};
use crate::run;
use crate::run_dir::{EarlierConfig, RunDir};
use crate::tokenizer_dir;

/// Findings of a dry run.
#[derive(Debug)]
pub struct DryRun {
    /// Reports of the data check, one per file.
    pub data: Vec<CheckReport>,
    /// Rows that the run would use; `None` if they cannot be loaded.
    pub rows: Option<RowCounts>,
    /// Optimizer steps of the run; `None` if the rows cannot be loaded.
    pub steps: Option<u64>,
    /// Estimated memory: of the longest row, or of the longest that the configuration allows if the rows cannot be loaded.
    pub memory: MemoryPlan,
    /// Memory that is free now on the device, in bytes.
    pub free_memory: u64,
    /// Errors that would keep the run from starting.
    pub errors: Vec<TrainError>,
}

/// Rows of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows to train on.
    pub train: usize,
    /// Rows to evaluate on.
    pub held_out: usize,
    /// Those of them that are trained on too.
    pub held_out_of_train: usize,
    /// Rows cut to `max_length` or `max_prompt_length`.
    pub truncated: TruncatedRows,
    /// Completions that did not end.
    pub unfinished: UnfinishedCompletions,
    /// Groups left out because they say nothing.
    pub degenerate: DegenerateGroups,
    /// Rows dropped by `on_bad_rows`.
    pub dropped: u64,
}

/// Checks a run as [`train`](crate::train) would before its first step, one that goes on included. Tokenised rows are kept
/// for the run, nothing else is written. `None` if `stop` became true.
///
/// # Errors
/// Errors that leave nothing to check: of the configuration, the model directory or its tokenizer. All others are in
/// [`DryRun::errors`].
pub fn dry_run(
    config: &TrainConfig,
    earlier: EarlierRun,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Option<DryRun>, TrainError> {
    if let Some(prompt) = &config.prompt {
        return prompt::dry_run(config, prompt, earlier, stop, watch);
    }
    let config = &*labels::resolved(config)?;
    let objective = Objective::new(config.loss.clone())?;
    let model_config = run::read_model_config(config)?;
    let scratch = tempfile::tempdir().map_err(io(&std::env::temp_dir(), "write to"))?;
    let tokenizer_dir = tokenizer_dir::prepare(config, scratch.path())?;
    let tokenizer = tokenizer_dir::load(config, &tokenizer_dir, watch)?;
    let mut errors = Vec::new();
    let dir = RunDir::new(&config.output_dir);
    let before = match earlier {
        EarlierRun::Restart => None,
        EarlierRun::Resume | EarlierRun::ResumeOnNewData => dir.earlier(config).unwrap_or_else(|error| {
            errors.push(error);
            None
        }),
    };
    let budget = match config.device.open() {
        Ok(device) => {
            watch(Event::Device(&device));
            let refused = config.refused_on(device.kind(), model_config.spec());
            errors.extend(refused.map(|reason| TrainError::config(&dir.config(), None, reason.to_owned())));
            MemoryBudget::of(&device)
        }
        Err(error) => {
            errors.push(error.into());
            MemoryBudget::host()
        }
    };
    if config.init == Init::Pretrained {
        errors.extend(ModelInfo::read(&config.model_name_or_path).err().map(TrainError::from));
    }
    let reference = config.reference_dir().and_then(|dir| config.open_reference(&dir).err());
    errors.extend(reference.map(TrainError::from));
    let dataset = data::dataset(config, tokenizer.bos());
    let check = config.data_check != DataCheck::Off;
    let Some(mut files) = data::tokenize(&dataset, config, &tokenizer, check, stop, watch)? else { return Ok(None) };
    let reports = std::mem::take(&mut files.reports);
    errors.extend(preflight::check_reporters(config).err());
    errors.extend(preflight::check_findings(config.data_check, config.on_bad_rows, &reports).err());
    let check_teacher = |teacher: PathBuf| tokenizer_dir::check_same(&tokenizer, config, &teacher).err();
    errors.extend(config.teacher().and_then(check_teacher));
    errors.extend(Probe::load(config, &tokenizer, model_config.spec().max_positions).err());
    let rows = match files.rows() {
        Ok(rows) => Some(rows),
        // The data check has reported it already.
        Err(_) if errors.iter().any(|error| matches!(error, TrainError::DataCheck { .. })) => None,
        Err(error) => {
            errors.push(error.into());
            None
        }
    };
    let mut held_out_of_train = 0;
    if let Some(rows) = &rows {
        watch(Event::Data(rows));
        held_out_of_train = rows.held_out_of_train();
        let remark = preflight::remark_on_held_out(held_out_of_train, rows.held_out.len());
        remark.iter().for_each(|remark| watch(Event::Note(remark)));
        if let Some(remark) = preflight::remark_on_warm_up(config, config.total_steps(rows.train.len())) {
            watch(Event::Note(&remark));
        }
        if earlier != EarlierRun::Restart && errors.is_empty() {
            errors.extend(goes_on(config, &dir, earlier, before, rows).err());
        }
    }
    errors.extend(rows.iter().filter_map(|rows| preflight::partners(&objective, &rows.train).err()));
    outcome(config, &model_config, budget, reports, rows, held_out_of_train, errors).map(Some)
}

/// Checks that a run which has begun, or is finished, goes on with these rows and this configuration.
fn goes_on(
    config: &TrainConfig,
    dir: &RunDir,
    earlier: EarlierRun,
    before: Option<EarlierConfig>,
    rows: &Rows,
) -> Result<(), TrainError> {
    if smpo_files::is_dir(&dir.model())? {
        run::check_length(dir, before)?;
        let Some(origin) = Origin::read(&dir.origin())? else { return Ok(()) };
        let changes = origin.changed_rows(&Origin::of(rows));
        let dir = config.output_dir.clone();
        return if changes.is_empty() { Ok(()) } else { Err(TrainError::FinishedOnOtherData { dir, changes }) };
    }
    let Some(checkpoint) = checkpoint::list(&dir.checkpoints())?.pop() else { return Ok(()) };
    let step = checkpoint.step;
    let Some(origin) = Resumed::read(checkpoint)?.state.origin else { return Ok(()) };
    let changes = origin.changed_rows(&Origin::of(rows));
    if !changes.is_empty() && earlier == EarlierRun::Resume {
        return Err(TrainError::OtherData { dir: config.output_dir.clone(), step, changes });
    }
    match before {
        Some(before) => Resume { config, dir, earlier }.check_length(&before, &origin, rows.train.len()),
        None => Ok(()),
    }
}

fn outcome(
    config: &TrainConfig,
    model_config: &Config,
    budget: MemoryBudget,
    data: Vec<CheckReport>,
    rows: Option<Rows>,
    held_out_of_train: usize,
    mut errors: Vec<TrainError>,
) -> Result<DryRun, TrainError> {
    let spec = model_config.spec();
    let mut memory = None;
    if let Some(rows) = &rows {
        errors.extend(preflight::check_vocabulary(rows.train.iter().chain(&rows.held_out), spec.vocab_size).err());
        errors.extend(preflight::check_memory(config, spec, budget, &rows.train).err());
        memory = memory::plan(config, spec, budget, &rows.train)?;
    }
    let memory = match memory {
        Some(memory) => memory,
        None => MemoryPlan::of_longest(config, spec, budget)?,
    };
    let counts = |rows: &Rows| RowCounts {
        train: rows.train.len(),
        held_out: rows.held_out.len(),
        held_out_of_train,
        truncated: rows.truncated,
        unfinished: rows.unfinished,
        degenerate: rows.degenerate,
        dropped: rows.bad.count,
    };
    Ok(DryRun {
        data,
        rows: rows.as_ref().map(counts),
        steps: rows.as_ref().map(|rows| config.total_steps(rows.train.len())),
        memory,
        free_memory: budget.free(),
        errors,
    })
}
