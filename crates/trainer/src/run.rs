//! A training run from its configuration to a model directory, resumable at any step.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use smpo_data::{Row, Rows};
use smpo_devices::{OpenDevice, on_device};
use smpo_files::{is_dir, is_file};
use smpo_losses::Objective;
use smpo_model::gguf::is_gguf;
use smpo_model::{Config, Decoder, ModelError, Placement};
use smpo_tokenizer::ChatTokenizer;

use crate::added_tokens::AddedTokens;
use crate::checkpoint::{self, Checkpoint, LoopState};
use crate::config::{DataCheck, TrainConfig};
use crate::data;
use crate::early_stopping::Rules;
use crate::error::TrainError;
use crate::event::{Event, Finish};
use crate::held_out::HeldOut;
use crate::labels;
use crate::learner::Learner;
use crate::learner_options::LearnerOptions;
use crate::memory_budget::MemoryBudget;
use crate::mismatched::from_elsewhere;
use crate::models::{Home, Models};
use crate::origin::Origin;
use crate::pooling::{Pooling, pad_token};
use crate::preflight;
use crate::probe::Probe;
use crate::prompt;
use crate::ranks::Ranks;
use crate::reference::ReferenceCache;
use crate::restart::restart;
use crate::resume::{EarlierRun, Resume, Resumed};
use crate::run_dir::{EarlierConfig, RunDir};
use crate::scoring::RowLogps;
use crate::steps::Steps;
use crate::tokenizer_dir;

/// Trains, or resumes a run that was interrupted. When `stop` becomes true, the current step is finished and saved.
///
/// # Errors
/// [`TrainError`]; checkpoints that were there before still are.
pub fn train(
    config: &TrainConfig,
    earlier: EarlierRun,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Finish, TrainError> {
    train_on(&Ranks::default(), config, earlier, stop, watch)
}

/// As [`train`], on one of several ranks, all of which have the same files and the same configuration. The first one
/// writes; the events of the others are not watched.
///
/// # Errors
/// As for [`train`], and [`TrainError::OtherRank`] where another rank has one.
pub fn train_on(
    ranks: &Ranks,
    config: &TrainConfig,
    earlier: EarlierRun,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Finish, TrainError> {
    let mut watch = |event: Event<'_>| {
        if ranks.leads() {
            watch(event)
        }
    };
    let watch = &mut watch;
    if let Some(prompt) = &config.prompt {
        if !ranks.alone() {
            let message = format!("`prompt` is looked for by one process, got {}; start one", ranks.world());
            return Err(TrainError::config(&config.output_dir.join("config.toml"), None, message));
        }
        return prompt::train(config, prompt, earlier, stop, watch);
    }
    let ranks = &ranks.at_stage(config.zero_stage);
    let dir = RunDir::new(&config.output_dir);
    let mut begun = true;
    let _lock = ranks.lead(|| {
        let lock = dir.lock()?;
        if earlier == EarlierRun::Restart {
            begun = restart(config, &dir, ranks.alone(), stop)?;
        }
        Ok(lock)
    })?;
    if ranks.any(!begun)? {
        return Ok(Finish::Stopped { step: 0 });
    }
    let config = &*ranks.agree(labels::resolved(config))?;
    let objective = Objective::new(config.loss.clone())?;
    let model_config = read_model_config(config)?;
    let before = ranks.agree(dir.earlier(config))?;
    if smpo_files::is_dir(&dir.model())? {
        ranks.lead(|| check_finished(config, &dir, before, stop))?;
        return Ok(Finish::Done { model: dir.model(), already: true, of_step: None, stopped: None });
    }
    ranks.lead(|| preflight::check_reporters(config))?;
    ranks.lead(|| dir.sweep())?;
    let device = ranks.agree(config.device.open().map_err(TrainError::from))?;
    if let Some(message) = config.refused_on(device.kind(), model_config.spec()) {
        return Err(TrainError::config(&config.output_dir.join("config.toml"), None, message.to_owned()));
    }
    watch(Event::Device(&device));
    if let Some(changes) = before.as_ref().and_then(|before| before.changes.describe()) {
        watch(Event::Note(&format!("other settings than before: {changes}")));
    }
    let budget = ranks.smallest(MemoryBudget::of(&device))?;
    let run = Run { config, model_config: &model_config, dir: &dir, device: &device, budget, earlier, stop, ranks };
    on_device(&device, || run.train(objective, before, watch))
}

/// Refuses to call a run finished that was to have more steps or other data.
fn check_finished(
    config: &TrainConfig,
    dir: &RunDir,
    before: Option<EarlierConfig>,
    stop: &AtomicBool,
) -> Result<(), TrainError> {
    check_length(dir, before)?;
    let Some(origin) = Origin::read(&dir.origin())? else { return Ok(()) };
    // Data that is gone since is no reason to refuse a finished run.
    let rows = || -> Result<Option<Rows>, TrainError> {
        let tokenizer = tokenizer_dir::load(config, &tokenizer_dir::prepare(config, &dir.tokenizer())?, &mut |_| {})?;
        let dataset = data::dataset(config, tokenizer.bos());
        let files = data::tokenize(&dataset, config, &tokenizer, false, stop, &mut |_| {})?;
        Ok(files.map(|files| files.rows()).transpose()?)
    };
    let Ok(Some(rows)) = rows() else { return Ok(()) };
    let changes = origin.changed_rows(&Origin::of(&rows));
    let dir = config.output_dir.clone();
    if changes.is_empty() { Ok(()) } else { Err(TrainError::FinishedOnOtherData { dir, changes }) }
}

/// Refuses to call a run finished that was to have more or fewer steps.
pub(crate) fn check_length(dir: &RunDir, before: Option<EarlierConfig>) -> Result<(), TrainError> {
    match before.map(|before| before.changes.lengths).filter(|lengths| !lengths.is_empty()) {
        Some(lengths) => Err(dir.other_run(lengths)),
        None => Ok(()),
    }
}

/// A run in a directory of its own.
#[derive(Clone, Copy)]
struct Run<'a> {
    config: &'a TrainConfig,
    model_config: &'a Config,
    dir: &'a RunDir,
    device: &'a OpenDevice,
    budget: MemoryBudget,
    earlier: EarlierRun,
    stop: &'a AtomicBool,
    ranks: &'a Ranks,
}

impl Run<'_> {
    fn train(
        self,
        objective: Objective,
        before: Option<EarlierConfig>,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Finish, TrainError> {
        let Self { config, dir, budget, earlier, ranks, .. } = self;
        let own = ranks.lead(|| tokenizer_dir::prepare(config, &dir.tokenizer()))?;
        let unchanged = ranks.any(own.is_some_and(|own| own == config.model_name_or_path))?;
        let tokenizer_dir = if unchanged { config.model_name_or_path.clone() } else { dir.tokenizer() };
        let tokenizer = tokenizer_dir::load(config, &tokenizer_dir, watch)?;
        let resumed = checkpoint::list(&dir.checkpoints())?.pop();
        let stopped = Finish::Stopped { step: resumed.as_ref().map_or(0, |checkpoint| checkpoint.step) };
        let resumed = resumed.map(Resumed::read).transpose()?;
        let spec = self.model_config.spec();
        let rows = ranks.in_turn(|| self.rows(&tokenizer, resumed.is_some(), watch))?;
        let interrupted = ranks.any(rows.is_none())?;
        let Some(mut rows) = rows.filter(|_| !interrupted) else { return Ok(stopped) };
        preflight::check_vocabulary(rows.train.iter().chain(&rows.held_out), spec.vocab_size)?;
        let resume = Resume { config, dir, earlier };
        let origin = resume.origin(&objective, &mut rows, resumed.as_ref(), watch)?;
        let Rows { train: rows, held_out, .. } = rows;
        if let (Some(before), Some(_)) = (&before, &resumed) {
            resume.check_length(before, &origin, rows.len())?;
        }
        let partners = preflight::partners(&objective, &rows)?;
        ranks.agree(preflight::check_memory(config, spec, budget, &rows))?;
        let probe = Probe::load(config, &tokenizer, spec.max_positions)?;
        if let Some(teacher) = config.teacher() {
            tokenizer_dir::check_same(&tokenizer, config, &teacher)?;
            watch(Event::Note(&format!("teacher: {}", teacher.display())));
        }
        if objective.needs_reference() {
            watch(Event::Note(&format!("reference model: {}", config.reference_in_words())));
        }

        let total_steps = config.total_steps_since(origin.since, rows.len());
        preflight::remark_on_warm_up(config, total_steps).iter().for_each(|remark| watch(Event::Note(remark)));
        let learner_options = LearnerOptions::of(config, spec, budget, Some(total_steps))?;
        if config.max_tokens_per_pack.is_none() && budget.is_gpu() {
            watch(Event::Note(&format!("packs of up to {} tokens: {budget}", learner_options.max_tokens)));
        }
        let checkpoint = resumed.as_ref().map(|resumed| resumed.checkpoint.clone());
        let models = ranks.agree(self.models(checkpoint.as_ref(), &tokenizer, watch))?;
        self.show_new_tokens(&models.policy, &rows, watch)?;
        let policy = models.policy.clone();
        let mut learner = Learner::on_ranks(policy, objective, learner_options, ranks.clone())?;
        learner.read_sequences(Pooling::of(config, &models.policy, &tokenizer)?);
        let done = resumed.as_ref().map(|resumed| resumed.checkpoint.step);
        let state = match resumed {
            Some(Resumed { checkpoint, state }) => checkpoint.restore(state, &mut learner, &origin)?,
            None => LoopState::default(),
        };
        let Some(references) = self.references(&rows, &origin, &learner, &models, watch)? else { return Ok(stopped) };
        let Some(held_out_references) = self.references(&held_out, &origin, &learner, &models, watch)? else {
            return Ok(stopped);
        };
        if config.sync_ref_model {
            let reference = models.following_reference(config, self.model_config, checkpoint.as_ref(), &self.home())?;
            learner.keep_reference(reference);
        } else if learner.objective().needs_mismatched() || config.loss.loss.distance().is_some() {
            learner.keep_reference(models.reference(config, self.model_config, &self.home())?);
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
            device: self.device,
            tokenizer_dir: &tokenizer_dir,
            origin: &origin,
            claimed: false,
            learner,
            state,
            rules: Rules::new(config),
            not_finite: None,
        };
        steps.take(done, self.stop, watch)
    }

    /// Reads, checks and draws the rows; `None` when interrupted. The rows of a resumed run were checked when it began,
    /// unless they may be new.
    fn rows(
        self,
        tokenizer: &ChatTokenizer,
        resumed: bool,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Rows>, TrainError> {
        let config = self.config;
        let dataset = data::dataset(config, tokenizer.bos());
        let known = resumed && self.earlier != EarlierRun::ResumeOnNewData;
        let check = !known && config.data_check != DataCheck::Off;
        let Some(files) = data::tokenize(&dataset, config, tokenizer, check, self.stop, watch)? else {
            return Ok(None);
        };
        preflight::check_findings(config.data_check, config.on_bad_rows, &files.reports)?;
        let rows = files.rows()?;
        watch(Event::Data(&rows));
        preflight::remark_on_held_out(rows.held_out_of_train(), rows.held_out.len())
            .iter()
            .for_each(|remark| watch(Event::Note(remark)));
        Ok(Some(rows))
    }

    /// Loads the weights of the first step, or of the step after a checkpoint.
    fn models(
        self,
        resumed: Option<&Checkpoint>,
        tokenizer: &ChatTokenizer,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Models, TrainError> {
        let mut models = Models::load(self.config, self.model_config, resumed, &self.home())?;
        if let Some(pad) = self.config.labels().and_then(|_| pad_token(&models.policy, tokenizer)) {
            models.policy.set_pad_token(pad);
            if tokenizer.is_terminator(pad) {
                let token = tokenizer.tokenizer().id_to_token(pad).unwrap_or_default();
                watch(Event::Note(&format!(
                    "the padding token {token} also ends turns: the head reads the token before it, as transformers \
                     does; give another with `pad_token`"
                )));
            }
        }
        Ok(models)
    }

    /// Remarks on the rows of new tokens: those that are added, and those that the data needs and nothing trains.
    fn show_new_tokens(
        self,
        policy: &Decoder,
        rows: &[Row],
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), TrainError> {
        let own = Config::from_dir(&self.config.model_name_or_path)?.spec().vocab_size;
        let new = AddedTokens::of(self.config)?.rows(own);
        if !new.is_empty() {
            let (last, vocabulary) = (new.end - 1, policy.spec().vocab_size);
            watch(Event::Note(&format!("new tokens {} to {last}: the model has {vocabulary} tokens", new.start)));
        }
        let completions = || rows.iter().flat_map(Row::completions).flat_map(|completion| completion.ids());
        let used: BTreeSet<u32> = rows.iter().flat_map(|row| &row.prompt).chain(completions()).copied().collect();
        let alike = policy.untrained_tokens(&used.into_iter().collect::<Vec<_>>())?;
        if !alike.is_empty() {
            let listed = alike.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            let remedy = match self.config.adapter() {
                Some(_) => format!("set trainable_token_indices = [{listed}], or modules_to_save"),
                None => "add model.embed_tokens to unfreeze_layers_patterns".to_owned(),
            };
            watch(Event::Note(&format!(
                "warning: the data has tokens whose rows of the embedding are alike or zero, as those of new tokens are, \
                 and nothing trains them: {listed}; {remedy}"
            )));
        }
        Ok(())
    }

    fn home(self) -> Home {
        let placement =
            Placement { device: self.device.device().clone(), dtype: self.config.dtype(self.device.kind()) };
        Home { placement, peers: self.ranks.peers() }
    }

    /// Log-probs of rows under the reference model, where the objective needs them and the model stays what it is; `None`
    /// when interrupted.
    fn references(
        self,
        rows: &[Row],
        origin: &Origin,
        learner: &Learner,
        models: &Models,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Vec<RowLogps>>, TrainError> {
        if !learner.objective().needs_reference() || self.config.sync_ref_model {
            return Ok(Some(Vec::new()));
        }
        let cache = ReferenceCache::new(
            &self.dir.reference(),
            self.config,
            self.device.kind(),
            origin,
            rows,
            learner.max_tokens(),
        );
        let reference = || models.reference(self.config, self.model_config, &self.home());
        let mut scored = |done| watch(Event::Reference { done, rows: rows.len() });
        cache.fill(rows, &learner.scorer(), reference, self.stop, &mut scored)
    }
}

/// Name on the Hub that a path may have been meant as.
fn hub_name(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_name = text.split('/').count() == 2 && !text.starts_with(['/', '.', '~']) && !text.ends_with('/');
    if is_name { text.into_owned() } else { "ORG/MODEL".to_owned() }
}

/// The model's configuration with room for added tokens, before anything is written for it.
pub(crate) fn read_model_config(config: &TrainConfig) -> Result<Config, TrainError> {
    let source = &config.model_name_or_path;
    let refuse = |origin: &Path, message: String| Err(TrainError::config(origin, None, message));
    if !is_gguf(source).map_err(ModelError::from)? && !is_dir(source).map_err(ModelError::from)? {
        let message = format!(
            "`model_name_or_path`: expected a model directory or a GGUF file, got neither; a model of the Hugging Face Hub is \
             `hf://{}`",
            hub_name(source)
        );
        return refuse(source, message);
    }
    let there = |name: &str| is_file(&source.join(name)).map_err(ModelError::from);
    if there("adapter_config.json")? && !there("config.json")? {
        let message = "`model_name_or_path` is an adapter: expected the model it adapts; give the adapter as \
                       `adapter_name_or_path` beside it";
        return refuse(source, message.to_owned());
    }
    let model = Config::from_dir(source)?;
    if let Some(key) = config.refused_without_experts(model.spec()) {
        let message = format!("`{key}` is for models with routed experts, which this one is not");
        return refuse(source, message);
    }
    if let Some(positions) = model.spec().max_positions.filter(|positions| config.max_length > *positions) {
        let message = format!(
            "`max_length` is {}, but this model has {positions} positions; set max_length = {positions} or less",
            config.max_length
        );
        return refuse(source, message);
    }
    let Some(labels) = config.labels() else {
        if let Some(labels) = model.labels() {
            let (kind, dir) = (config.loss.loss.kind(), source.display());
            let message = format!("`model_name_or_path` is {dir}: loss `{kind}` trains a language model, got {labels}");
            return refuse(source, message);
        }
        return Ok(AddedTokens::of(config)?.enlarge(model));
    };
    Ok(AddedTokens::of(config)?.enlarge(model.with_labels(labels)?))
}
