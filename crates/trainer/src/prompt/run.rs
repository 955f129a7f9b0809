//! A run from its configuration to the file of its prompts, resumable at any step.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::Tensor;
use smpo_data::{DatasetError, Located, Record, Row, RowKind, Truncation, Unfinished};
use smpo_files::sha256;
use smpo_kernels::{AdamW, Gradients, Parameter, Tape};
use smpo_losses::{Evaluation, Objective};
use smpo_model::{Config, ModelDir, Placement};
use smpo_tokenizer::ChatTokenizer;

use super::rows::{Renderer, Slotted};
use super::state::{self, Header};
use super::tokens::{forbidden, mask};
use super::{Codebook, Found, FrozenModel, Optimized};
use crate::config::{Due, Interval, PromptConfig, TrainConfig};
use crate::data;
use crate::dry_run::{DryRun, RowCounts};
use crate::error::TrainError;
use crate::event::{Event, Finish};
use crate::learner_options::LearnerOptions;
use crate::memory::{self, MemoryPlan};
use crate::memory_budget::MemoryBudget;
use crate::pooling::Pooling;
use crate::preflight;
use crate::record::{Figure, MetricsLog, StepRecord, Update};
use crate::restart::restart;
use crate::resume::EarlierRun;
use crate::run::read_model_config;
use crate::run_dir::RunDir;
use crate::schedule::LearningRate;
use crate::steps::Batches;
use crate::tokenizer_dir;

/// Learns the prompts of a configuration, or goes on with a run that was interrupted.
pub(crate) fn train(
    config: &TrainConfig,
    prompt: &PromptConfig,
    earlier: EarlierRun,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Finish, TrainError> {
    let objective = Objective::new(config.loss.clone())?;
    let model_config = read_model(config)?;
    let dir = RunDir::new(&config.output_dir);
    if earlier == EarlierRun::ResumeOnNewData {
        let message = "--data-changed: prompts are learned anew on other rows: give --restart, or another output_dir";
        return Err(TrainError::config(&dir.config(), None, message.to_owned()));
    }
    let _lock = dir.lock()?;
    if earlier == EarlierRun::Restart && !restart(config, &dir, true, stop)? {
        return Ok(Finish::Stopped { step: 0 });
    }
    let before = dir.earlier(config)?;
    let done = |already| Finish::Done { model: dir.prompts(), already, of_step: None, stopped: None };
    if dir.prompts().is_file() {
        return match before.map(|before| before.changes.lengths).filter(|lengths| !lengths.is_empty()) {
            Some(lengths) => Err(dir.other_run(lengths)),
            None => Ok(done(true)),
        };
    }
    dir.sweep()?;
    let tokenizer = tokenizer_dir::load(config, &tokenizer_dir::prepare(config, &dir.tokenizer())?, watch)?;
    let Some(rows) = Rows::load(config, prompt, &tokenizer, &model_config, stop)? else {
        return Ok(Finish::Stopped { step: 0 });
    };
    rows.remark(config, watch);
    preflight::check_memory(config, model_config.spec(), MemoryBudget::host(), &rows.train_rows())?;
    if let Some(remark) = preflight::remark_on_warm_up(config, config.total_steps(rows.train.len())) {
        watch(Event::Note(&remark));
    }
    if let Some(text) = &prompt.init {
        let tokens = tokenizer.encode_text(text)?.len();
        if tokens > prompt.length {
            let kept = prompt.length;
            watch(Event::Note(&format!(
                "`prompt.init` has {tokens} tokens, of which the first {kept} are taken (`prompt.length`)"
            )));
        }
    }
    let mut run = Run::new(config, prompt, objective, &tokenizer, &rows, &dir)?;
    match run.take(stop, watch)? {
        Some(step) => Ok(Finish::Stopped { step }),
        None => {
            run.finish()?;
            Ok(done(false))
        }
    }
}

/// Checks a run up to its first step, as [`crate::dry_run()`].
pub(crate) fn dry_run(
    config: &TrainConfig,
    prompt: &PromptConfig,
    earlier: EarlierRun,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Option<DryRun>, TrainError> {
    let model_config = read_model(config)?;
    let scratch = tempfile::tempdir().map_err(crate::error::io(&std::env::temp_dir(), "write to"))?;
    let tokenizer = tokenizer_dir::load(config, &tokenizer_dir::prepare(config, scratch.path())?, watch)?;
    let (spec, budget) = (model_config.spec(), MemoryBudget::host());
    let mut found = DryRun {
        data: Vec::new(),
        rows: None,
        steps: None,
        memory: MemoryPlan::of_longest(config, spec, budget)?,
        free_memory: budget.free(),
        errors: Vec::new(),
    };
    if earlier != EarlierRun::Restart {
        found.errors.extend(RunDir::new(&config.output_dir).earlier(config).err());
    }
    match Rows::load(config, prompt, &tokenizer, &model_config, stop) {
        Ok(None) => return Ok(None),
        Ok(Some(rows)) => {
            rows.remark(config, watch);
            found.errors.extend(preflight::check_memory(config, spec, budget, &rows.train_rows()).err());
            found.memory = memory::plan(config, spec, budget, &rows.train_rows())?.unwrap_or(found.memory);
            let steps = config.total_steps(rows.train.len());
            if let Some(remark) = preflight::remark_on_warm_up(config, steps) {
                watch(Event::Note(&remark));
            }
            found.steps = Some(steps);
            found.rows = Some(RowCounts {
                train: rows.train.len(),
                held_out_of_train: 0,
                held_out: if rows.held_out { rows.measured.len() } else { 0 },
                dropped: (rows.bad + rows.too_long + rows.unfinished) as u64,
                truncated: Default::default(),
                unfinished: Default::default(),
                degenerate: Default::default(),
            });
        }
        Err(error) => found.errors.push(error),
    }
    Ok(Some(found))
}

/// The model's configuration; for a loss of rewards it must be that of a reward model, since no head is trained.
fn read_model(config: &TrainConfig) -> Result<Config, TrainError> {
    let model = Config::from_dir(&config.model_name_or_path);
    let checked = read_model_config(config)?;
    if config.labels().is_some() && model?.labels().is_none_or(|labels| !labels.is_reward()) {
        let message = "a prompt of loss `reward` is learned for a reward model, whose head is there: expected one, got another \
                       model; train it first (loss.kind = \"reward\" without [prompt]), or set loss.kind = \"sft\"";
        return Err(TrainError::config(&config.model_name_or_path, None, message.to_owned()));
    }
    Ok(checked)
}

/// The rows of a run.
struct Rows {
    train: Vec<Slotted>,
    /// Records that prompts are measured on.
    measured: Vec<Located<Record>>,
    /// True if those are rows apart.
    held_out: bool,
    /// Digest of all rows.
    digest: String,
    /// Rows left out: that cannot be used, longer than `max_length`, or with a completion that did not end.
    bad: usize,
    too_long: usize,
    unfinished: usize,
    kind: RowKind,
    truncation: Truncation,
}

impl Rows {
    /// Reads and draws the rows; `None` when interrupted.
    fn load(
        config: &TrainConfig,
        prompt: &PromptConfig,
        tokenizer: &ChatTokenizer,
        model: &Config,
        stop: &AtomicBool,
    ) -> Result<Option<Self>, TrainError> {
        let dataset = data::dataset(config, tokenizer.bos());
        let mut on_row =
            || if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let Some(drawn) = dataset.records(&mut on_row)? else { return Ok(None) };
        let truncation = Truncation { max_length: None, max_prompt_length: None, ..dataset.truncation };
        let mut rows = Rows {
            train: Vec::new(),
            measured: Vec::new(),
            held_out: !drawn.held_out.is_empty(),
            digest: String::new(),
            bad: drawn.bad.count as usize,
            too_long: 0,
            unfinished: 0,
            kind: dataset.kind,
            truncation,
        };
        let hash = |row: &Located<Record>| format!("{:016x}", row.record.content_hash());
        let hashes = |rows: &[Located<Record>]| rows.iter().map(hash).collect::<Vec<_>>().join(" ");
        rows.digest = sha256(format!("{}\n{}", hashes(&drawn.train), hashes(&drawn.held_out)).as_bytes());
        for (of_training, records) in [(true, drawn.train), (false, drawn.held_out)] {
            for record in records {
                if on_row().is_break() {
                    return Ok(None);
                }
                let renderer = rows.renderer(tokenizer, prompt);
                let slotted = renderer.slotted(&record)?;
                let longest = length(slotted.row()) + prompt.length;
                let is_fit = longest.max(length(&renderer.row(&record, None)?)) <= config.max_length;
                if !is_fit {
                    rows.too_long += 1;
                    continue;
                }
                let cut = slotted.row().completions().any(|side| !side.finished());
                if cut && config.unfinished == Unfinished::Drop {
                    rows.unfinished += 1;
                    continue;
                }
                if of_training {
                    rows.train.push(slotted);
                }
                if !of_training || !rows.held_out {
                    rows.measured.push(record);
                }
            }
        }
        rows.check(config, model)?;
        Ok(Some(rows))
    }

    fn check(&self, config: &TrainConfig, model: &Config) -> Result<(), TrainError> {
        if self.train.is_empty() || self.measured.is_empty() {
            let which = if self.train.is_empty() { "to learn on" } else { "to measure on" };
            return Err(TrainError::Data(DatasetError::NoRows {
                file: config.dataset.first().cloned().unwrap_or_default(),
                expected: self.kind.expected(),
                got: format!(
                    "none {which}: {} rows are longer than max_length = {} with the prompt, {} did not end",
                    self.too_long, config.max_length, self.unfinished
                ),
            }));
        }
        preflight::check_vocabulary(self.train.iter().map(Slotted::row), model.spec().vocab_size)
    }

    fn renderer<'a>(&'a self, tokenizer: &'a ChatTokenizer, prompt: &PromptConfig) -> Renderer<'a> {
        Renderer { tokenizer, kind: self.kind, role: prompt.role, truncation: &self.truncation }
    }

    fn train_rows(&self) -> Vec<Row> {
        self.train.iter().map(|row| row.row().clone()).collect()
    }

    /// Remarks on the rows.
    fn remark(&self, config: &TrainConfig, watch: &mut dyn FnMut(Event<'_>)) {
        let measured = match self.held_out {
            true => format!("{} held out to measure prompts on", self.measured.len()),
            false => "the same to measure prompts on: test_size or eval_dataset holds others out".to_owned(),
        };
        watch(Event::Note(&format!("{} to learn on, {measured}", smpo_suggest::counted(self.train.len(), "row"))));
        if self.too_long > 0 {
            let most = config.max_length;
            watch(Event::Note(&format!(
                "{} rows left out: longer than max_length = {most} tokens with the prompt",
                self.too_long
            )));
        }
        if self.unfinished > 0 {
            watch(Event::Note(&format!("{} rows left out: a completion did not end", self.unfinished)));
        }
        if self.bad > 0 {
            watch(Event::Note(&format!("{} bad rows dropped (on_bad_rows)", self.bad)));
        }
    }
}

/// Tokens of the longest sequence of a row.
fn length(row: &Row) -> usize {
    row.prompt.len() + row.completions().map(|side| side.ids().len()).max().unwrap_or(0)
}

/// A run, ready to take steps.
struct Run<'a> {
    config: &'a TrainConfig,
    prompt: &'a PromptConfig,
    tokenizer: &'a ChatTokenizer,
    rows: &'a Rows,
    dir: &'a RunDir,
    model: FrozenModel,
    codebook: Codebook,
    optimizer: AdamW,
    gradients: Gradients,
    mask: Tensor,
    /// Tokens of `prompt.init`.
    init: Vec<u32>,
    /// The best of each prompt so far.
    found: Vec<Found>,
    task: String,
    total_steps: u64,
    learning_rate: LearningRate,
    evaluate: Due,
    save: Option<Due>,
}

impl<'a> Run<'a> {
    fn new(
        config: &'a TrainConfig,
        prompt: &'a PromptConfig,
        objective: Objective,
        tokenizer: &'a ChatTokenizer,
        rows: &'a Rows,
        dir: &'a RunDir,
    ) -> Result<Self, TrainError> {
        let model = match &config.adapter_name_or_path {
            Some(adapter) => ModelDir::open(adapter, Some(&config.model_name_or_path))?,
            None => ModelDir::open(&config.model_name_or_path, None)?,
        };
        let task = sha256(format!("{} {}", rows.digest, model.fingerprint()?).as_bytes());
        let decoder = model.load_frozen(&Placement::default(), &config.storage())?;
        let shown = model.adapter().unwrap_or(model.weights());
        match config.labels() {
            Some(_) => drop(decoder.expect_labels(shown)?),
            None => decoder.expect_language_model(shown)?,
        }
        let total_steps = config.total_steps(rows.train.len());
        let options = LearnerOptions::of(config, decoder.spec(), MemoryBudget::host(), Some(total_steps))?;
        let pooling = config.labels().map(|_| Pooling::new(&decoder, tokenizer)).transpose()?;
        let vocabulary = decoder.spec().vocab_size;
        let model = FrozenModel::new(decoder, objective, pooling, options.max_tokens)?;
        let unfit = unfit_tokens(config, prompt, tokenizer, vocabulary)?;
        let init = init_tokens(config, prompt, tokenizer, &unfit)?;
        let codebook = Codebook::new(model.table(), (prompt.count, prompt.length), &init, prompt.noise, config.seed)?;
        let parameter = |name: &str, var: &candle_core::Var, decay| Parameter {
            name: name.into(),
            var: var.clone(),
            decay,
            full_moments: true,
        };
        let parameters =
            vec![parameter(state::VALUES, &codebook.values, true), parameter(state::NOISE, &codebook.noise, false)];
        let optimizer = AdamW::new(parameters, options.adamw)?;
        let per_epoch = config.steps_per_epoch(rows.train.len());
        let every = |interval: Interval| interval.due(total_steps, per_epoch, 0);
        Ok(Run {
            gradients: optimizer.gradients()?,
            mask: mask(&unfit)?,
            evaluate: every(config.eval_steps.unwrap_or(Interval::Epoch)),
            save: config.save_steps.map(every),
            learning_rate: config.learning_rate(total_steps),
            found: Vec::new(),
            config,
            prompt,
            tokenizer,
            rows,
            dir,
            model,
            codebook,
            optimizer,
            init,
            task,
            total_steps,
        })
    }

    /// Takes the steps that are left; the step after which it was stopped, or `None` after the last.
    fn take(&mut self, stop: &AtomicBool, watch: &mut dyn FnMut(Event<'_>)) -> Result<Option<u64>, TrainError> {
        let path = self.dir.prompt_state();
        let resumed = state::read(&path)?;
        if let Some(state) = &resumed {
            if state.header.task != self.task {
                return Err(self.dir.other_run(vec!["rows or model".to_owned()]));
            }
            state.restore(&self.codebook, &mut self.optimizer)?;
            self.found = state.header.found.clone();
        }
        self.dir.write_config(self.config)?;
        let done = self.optimizer.steps();
        let mut log = MetricsLog::open(&self.dir.metrics(), resumed.is_some().then_some(done))?;
        watch(Event::Started { total_steps: self.total_steps, done });
        if resumed.is_none() {
            let metrics = self.measure()?;
            let record = StepRecord { step: 0, epoch: 0.0, metrics, update: None };
            log.append(&record)?;
            watch(Event::Step(&record));
            self.write_state()?;
        }
        let mut batches = Batches::new(self.rows.train.len(), self.config);
        while self.optimizer.steps() < self.total_steps {
            let index = self.optimizer.steps();
            if stop.load(Ordering::SeqCst) {
                self.write_state()?;
                return Ok(Some(index));
            }
            let mut record = self.step(index, batches.rows_of(index))?;
            let is_last = record.step == self.total_steps;
            let measured = is_last || self.evaluate.at(record.step);
            if measured {
                record.metrics.extend(self.measure()?);
            }
            log.append(&record)?;
            watch(Event::Step(&record));
            if measured || self.save.is_some_and(|due| due.at(record.step)) {
                self.write_state()?;
            }
        }
        Ok(None)
    }

    /// One optimizer step, number `index` from 0.
    fn step(&mut self, index: u64, batch: &[usize]) -> Result<StepRecord, TrainError> {
        let began = Instant::now();
        let prompt = self.prompt;
        let temperature = temperature(prompt, index, self.total_steps);
        let table = self.model.table();
        let gumbel = match prompt.noise == 0.0 {
            true => None,
            false => Some(self.codebook.gumbel(table.dim(0)?, self.config.seed, index)?),
        };
        let choice = self.codebook.choose(table, &self.mask, temperature, gumbel)?;
        let rows: Vec<&Slotted> = batch.iter().map(|&row| &self.rows.train[row]).collect();
        let share = 1.0 / prompt.count as f64;
        let (mut loss, mut accuracy, mut embedded) = (0.0, Some(0.0), Vec::with_capacity(prompt.count));
        for ids in choice.ids.chunks(prompt.length) {
            let (evaluation, gradient) = self.model.gradient(&rows, ids, index + 1)?;
            loss += share * evaluation.value;
            accuracy = accuracy.zip(accuracy_of(&evaluation)).map(|(sum, of_prompt)| sum + share * of_prompt);
            embedded.push((gradient * share)?);
        }
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { step: index + 1, what: "the loss", value: loss });
        }
        let of_codebook = choice.backward(table, &Tensor::cat(&embedded, 0)?)?;
        let (similarity, of_similarity) = self.codebook.similarity(prompt.dissimilarity)?;
        self.gradients.clear();
        add(&self.codebook.values, &(of_codebook.values + of_similarity)?, &mut self.gradients)?;
        add(&self.codebook.noise, &of_codebook.noise, &mut self.gradients)?;
        let lr = self.learning_rate.at(index);
        let report = self.optimizer.step(&self.gradients, lr)?;
        let noise = self.codebook.clamp_noise()?;
        let mut metrics: Vec<Figure> = vec![("loss".into(), loss)];
        metrics.extend(accuracy.map(|accuracy| ("rewards/accuracies".into(), accuracy)));
        metrics.push(("prompt/similarity".into(), similarity));
        metrics.push(("prompt/temperature".into(), temperature));
        metrics.push(("prompt/noise".into(), noise));
        let tokens: usize = rows.iter().map(|row| row.row().tokens() + prompt.length).sum();
        let tokens_per_s = (tokens * prompt.count) as f64 / began.elapsed().as_secs_f64();
        let epoch = (index + 1) as f64 / self.config.steps_per_epoch(self.rows.train.len()) as f64;
        let update = Some(Update { lr, grad_norm: report.grad_norm, tokens_per_s });
        Ok(StepRecord { step: index + 1, epoch, metrics, update })
    }

    /// Measures each prompt's tokens as text, and keeps those that are better than before. The text that the prompts started
    /// from is measured too at the start.
    fn measure(&mut self) -> Result<Vec<Figure>, TrainError> {
        let step = self.optimizer.steps();
        let mut total = 0.0;
        for (number, ids) in self.codebook.tokens(self.model.table(), &self.mask)?.into_iter().enumerate() {
            let now = self.found_of(ids, step)?;
            total += now.loss / self.prompt.count as f64;
            match self.found.get_mut(number) {
                Some(best) if now.loss < best.loss => *best = now,
                Some(_) => {}
                None => self.found.push(now),
            }
        }
        if step == 0 && !self.init.is_empty() {
            let start = self.found_of(self.init.clone(), 0)?;
            for best in self.found.iter_mut().filter(|best| start.loss < best.loss) {
                *best = start.clone();
            }
        }
        let best = self.found.iter().map(|found| found.loss).fold(f64::INFINITY, f64::min);
        Ok(vec![("eval_loss".into(), total), ("eval_best_loss".into(), best)])
    }

    /// The worth of tokens.
    fn found_of(&self, ids: Vec<u32>, step: u64) -> Result<Found, TrainError> {
        // the same tokens were measured before
        if let Some(known) = self.found.iter().find(|found| found.ids == ids) {
            return Ok(known.clone());
        }
        let text = self.tokenizer.decode(&ids)?;
        let renderer = self.rows.renderer(self.tokenizer, self.prompt);
        let of_text = self.rows_with(Some(&text))?;
        let slotted = |row: &Located<Record>| Ok(renderer.slotted(row)?.with(&ids));
        let of_ids = self.rows.measured.iter().map(slotted).collect::<Result<Vec<Row>, TrainError>>()?;
        let evaluation = self.model.measure(&of_text, step)?;
        let loss_of_ids = match of_ids == of_text {
            true => evaluation.value,
            false => self.model.measure(&of_ids, step)?.value,
        };
        Ok(Found { text, ids, loss: evaluation.value, loss_of_ids, accuracy: accuracy_of(&evaluation), step })
    }

    /// The measured rows with a text in place, or as they are.
    fn rows_with(&self, text: Option<&str>) -> Result<Vec<Row>, TrainError> {
        let renderer = self.rows.renderer(self.tokenizer, self.prompt);
        self.rows.measured.iter().map(|row| Ok(renderer.row(row, text)?)).collect()
    }

    fn write_state(&self) -> Result<(), TrainError> {
        let header =
            Header { schema: 1, task: self.task.clone(), step: self.optimizer.steps(), found: self.found.clone() };
        state::write(&self.dir.prompt_state(), &header, &self.codebook, &self.optimizer)
    }

    /// Writes the prompts, the best first.
    fn finish(self) -> Result<(), TrainError> {
        let without = self.model.measure(&self.rows_with(None)?, self.total_steps)?;
        let loss_of_init = match &self.prompt.init {
            Some(text) => Some(self.model.measure(&self.rows_with(Some(text))?, self.total_steps)?.value),
            None => None,
        };
        let mut prompts = self.found.clone();
        prompts.sort_by(|a, b| a.loss.total_cmp(&b.loss));
        let optimized = Optimized {
            schema: Optimized::SCHEMA,
            model: self.config.model_name_or_path.display().to_string(),
            loss: self.config.loss.loss.kind().to_owned(),
            prompt: self.prompt.clone(),
            rows: self.rows.train.len(),
            measured_rows: self.rows.measured.len(),
            held_out: self.rows.held_out,
            loss_without: without.value,
            accuracy_without: accuracy_of(&without),
            loss_of_init,
            prompts,
        };
        optimized.write(&self.dir.prompts())?;
        remove(&self.dir.prompt_state())
    }
}

fn remove(path: &Path) -> Result<(), TrainError> {
    std::fs::remove_file(path).map_err(crate::error::io(path, "remove"))
}

/// Half a cosine from the first step's temperature to the last's.
fn temperature(prompt: &PromptConfig, index: u64, total: u64) -> f64 {
    let share = index as f64 / total.saturating_sub(1).max(1) as f64;
    let (from, to) = (prompt.temperature, prompt.final_temperature);
    to + 0.5 * (from - to) * (1.0 + (std::f64::consts::PI * share).cos())
}

/// Share of the pairs whose chosen side has the greater reward; `None` for a loss without rewards.
fn accuracy_of(evaluation: &Evaluation) -> Option<f64> {
    let right = evaluation.pairs.iter().map(|pair| pair.chosen_reward.zip(pair.rejected_reward));
    let right: Vec<bool> =
        right.map(|rewards| rewards.map(|(chosen, rejected)| chosen > rejected)).collect::<Option<_>>()?;
    Some(right.iter().filter(|right| **right).count() as f64 / right.len().max(1) as f64)
}

/// Adds a gradient to those of a variable.
fn add(variable: &Tensor, gradient: &Tensor, gradients: &mut Gradients) -> Result<(), TrainError> {
    // a tape without operations passes it on as it is
    Tape::default().backward(variable, gradient, gradients)?;
    Ok(())
}

/// Tokens that no prompt may hold.
fn unfit_tokens(
    config: &TrainConfig,
    prompt: &PromptConfig,
    tokenizer: &ChatTokenizer,
    vocabulary: usize,
) -> Result<Vec<bool>, TrainError> {
    let refuse = |message: String| TrainError::config(&config.output_dir.join("config.toml"), None, message);
    if let Some(beyond) = prompt.forbidden_token_ids.iter().find(|id| **id as usize >= vocabulary) {
        let message = format!("`prompt.forbidden_token_ids`: expected ids below {vocabulary}, got {beyond}");
        return Err(refuse(message));
    }
    let unfit = forbidden(tokenizer, vocabulary, &prompt.forbidden_token_ids)?;
    match unfit.iter().all(|unfit| *unfit) {
        true => Err(refuse("`prompt.forbidden_token_ids`: expected a token that is left to choose, got none".into())),
        false => Ok(unfit),
    }
}

/// The tokens of `prompt.init`, those beyond the prompt's length left out.
fn init_tokens(
    config: &TrainConfig,
    prompt: &PromptConfig,
    tokenizer: &ChatTokenizer,
    unfit: &[bool],
) -> Result<Vec<u32>, TrainError> {
    let mut ids = match &prompt.init {
        Some(text) => tokenizer.encode_text(text)?,
        None => Vec::new(),
    };
    ids.truncate(prompt.length);
    match ids.iter().find(|id| unfit.get(**id as usize).is_none_or(|unfit| *unfit)) {
        Some(id) => {
            let message = format!(
                "`prompt.init`: expected tokens that a prompt may hold, got {id}, which is special, part of a character or \
                 forbidden"
            );
            Err(TrainError::config(&config.output_dir.join("config.toml"), None, message))
        }
        None => Ok(ids),
    }
}
