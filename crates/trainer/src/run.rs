//! A training run from its configuration to a model directory, resumable at any step.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use smpo_data::{Row, Rows};
use smpo_devices::{OpenDevice, on_device};
use smpo_losses::Objective;
use smpo_model::{Config, Placement};
use smpo_tokenizer::ChatTokenizer;

use crate::checkpoint::{self, Checkpoint, LoopState};
use crate::config::{DataCheck, TrainConfig};
use crate::data;
use crate::early_stopping::Rules;
use crate::error::TrainError;
use crate::event::{Event, Finish};
use crate::held_out::HeldOut;
use crate::learner::Learner;
use crate::learner_options::LearnerOptions;
use crate::mismatched::from_elsewhere;
use crate::models::Models;
use crate::preflight;
use crate::probe::Probe;
use crate::reference::ReferenceCache;
use crate::run_dir::RunDir;
use crate::scoring::RowLogps;
use crate::steps::Steps;
use crate::tokenizer_dir;

/// Trains, or resumes a run that was interrupted. `restart` deletes an earlier run in the directory first. When `stop`
/// becomes true, the current step is finished and saved.
///
/// # Errors
/// [`TrainError`]; checkpoints that were there before still are.
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
    let run = Run { config, model_config: &model_config, dir: &dir, device: &device, stop };
    on_device(&device, || run.train(objective, watch))
}

/// A run in a directory of its own.
#[derive(Clone, Copy)]
struct Run<'a> {
    config: &'a TrainConfig,
    model_config: &'a Config,
    dir: &'a RunDir,
    device: &'a OpenDevice,
    stop: &'a AtomicBool,
}

impl Run<'_> {
    fn train(self, objective: Objective, watch: &mut dyn FnMut(Event<'_>)) -> Result<Finish, TrainError> {
        let Self { config, dir, .. } = self;
        let tokenizer_dir = tokenizer_dir::prepare(config, &dir.tokenizer())?;
        let tokenizer = ChatTokenizer::from_model_dir(&tokenizer_dir)?;
        let resumed = checkpoint::list(&dir.checkpoints())?.pop();
        let stopped = Finish::Stopped { step: resumed.as_ref().map_or(0, |checkpoint| checkpoint.step) };
        let spec = self.model_config.spec();
        let Some(rows) = self.rows(&tokenizer, resumed.is_some(), watch)? else { return Ok(stopped) };
        let Rows { train: rows, held_out, .. } = rows;
        preflight::check_vocabulary(rows.iter().chain(&held_out), spec.vocab_size)?;
        let partners = preflight::partners(&objective, &rows)?;
        preflight::check_memory(config, spec, &rows)?;
        let probe = Probe::load(config, &tokenizer, spec.max_positions)?;

        let learner_options = LearnerOptions::of(config, spec, Some(config.total_steps(rows.len())))?;
        let models = self.models(resumed.as_ref())?;
        let mut learner = Learner::new(models.policy.clone(), objective, learner_options)?;
        let state = match &resumed {
            Some(checkpoint) => checkpoint.restore(&mut learner)?,
            None => LoopState::default(),
        };
        let Some(references) = self.references(&rows, &learner, &models, watch)? else { return Ok(stopped) };
        let Some(held_out_references) = self.references(&held_out, &learner, &models, watch)? else {
            return Ok(stopped);
        };
        if learner.objective().needs_mismatched() {
            learner.keep_reference(models.reference(config, self.model_config, &self.placement())?);
        }
        let held_out = (!held_out.is_empty()).then(|| HeldOut {
            others: if partners.is_empty() { Vec::new() } else { from_elsewhere(&held_out, &rows) },
            rows: held_out,
            references: held_out_references,
            micro_batch: config.eval_batch_size(),
        });
        let mut steps = Steps {
            config,
            dir,
            rows: &rows,
            references: &references,
            partners,
            held_out,
            probe,
            tokenizer_dir: &tokenizer_dir,
            learner,
            state,
            rules: Rules::new(config),
            not_finite: None,
        };
        steps.take(resumed.map(|checkpoint| checkpoint.step), self.stop, watch)
    }

    /// Reads, checks and draws the rows; `None` when interrupted. A resumed run was checked when it began.
    fn rows(
        self,
        tokenizer: &ChatTokenizer,
        resumed: bool,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Rows>, TrainError> {
        let config = self.config;
        let dataset = data::dataset(config, tokenizer.bos());
        let check = !resumed && config.data_check != DataCheck::Off;
        let Some(files) = data::tokenize(&dataset, config, tokenizer, check, self.stop, watch)? else {
            return Ok(None);
        };
        preflight::check_findings(config.data_check, config.on_bad_rows, &files.reports)?;
        let rows = files.rows()?;
        watch(Event::Data(&rows));
        Ok(Some(rows))
    }

    /// Loads the weights of the first step, or of the step after a checkpoint.
    fn models(self, resumed: Option<&Checkpoint>) -> Result<Models, TrainError> {
        Models::load(self.config, self.model_config, resumed, &self.placement())
    }

    fn placement(self) -> Placement {
        Placement { device: self.device.device().clone(), dtype: self.config.dtype(self.device.kind()) }
    }

    /// Log-probs of rows under the reference model, where the objective needs them; `None` when interrupted.
    fn references(
        self,
        rows: &[Row],
        learner: &Learner,
        models: &Models,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Vec<RowLogps>>, TrainError> {
        if !learner.objective().needs_reference() {
            return Ok(Some(Vec::new()));
        }
        let max_tokens = learner.max_tokens();
        let cache = ReferenceCache::new(&self.dir.reference(), self.config, rows, max_tokens);
        let reference = || models.reference(self.config, self.model_config, &self.placement());
        let mut scored = |done| watch(Event::Reference { done, rows: rows.len() });
        cache.fill(rows, max_tokens, reference, self.stop, &mut scored)
    }
}

/// The model's configuration, before anything is written for it.
pub(crate) fn read_model_config(config: &TrainConfig) -> Result<Config, TrainError> {
    let source = &config.model_name_or_path;
    let refuse = |origin: &Path, message: String| Err(TrainError::config(origin, None, message));
    if !source.is_dir() {
        let message = format!(
            "`model_name_or_path` is {}: expected a model directory, got none; a model of the Hugging Face Hub has to \
             be downloaded first (hf download NAME --local-dir DIR)",
            source.display()
        );
        return refuse(source, message);
    }
    if source.join("adapter_config.json").is_file() && !source.join("config.json").is_file() {
        let message = "`model_name_or_path` is an adapter: expected the model it adapts; give the adapter as \
                       `adapter_name_or_path` beside it";
        return refuse(source, message.to_owned());
    }
    let model = Config::from_dir(source)?;
    if let Some(positions) = model.spec().max_positions.filter(|positions| config.max_length > *positions) {
        let message = format!(
            "`max_length` is {}, but {} has {positions} positions; set max_length = {positions} or less",
            config.max_length,
            source.display()
        );
        return refuse(&config.output_dir.join("config.toml"), message);
    }
    Ok(model)
}
