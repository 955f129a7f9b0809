//! A training run from its configuration to a model directory, resumable at any step.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use smpo_data::{ChatTokenizer, CheckReport, DatasetError, order};
use smpo_losses::Objective;
use smpo_model::{Config, Decoder, ModelError, SaveOptions};

use crate::checkpoint::{self, Checkpoint};
use crate::config::{Init, TrainConfig};
use crate::error::{TrainError, io};
use crate::learner::{Learner, RowLogps, StepRow, row_logps};
use crate::preflight;
use crate::record::{MetricsLog, StepRecord};
use crate::row::{self, Row, Rows};

/// What a run tells whoever watches it. Watching decides nothing.
#[derive(Debug)]
pub enum Event<'a> {
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
    Reference,
    /// The first step is next.
    Started {
        /// Steps of the whole run.
        total_steps: u64,
        /// Steps taken before, by the checkpoint that the run goes on from.
        done: u64,
    },
    /// A step is done.
    Step(&'a StepRecord),
    /// A checkpoint is on the disk.
    Saved(&'a Path),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// `model/` is there; it was there before when `already` is set.
    Done {
        /// The model directory.
        model: PathBuf,
        /// Nothing had to be done.
        already: bool,
    },
    /// Asked to stop; a checkpoint after `step` steps is on the disk.
    Stopped {
        /// Steps taken.
        step: u64,
    },
}

/// The paths inside a run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Names the directory; touches nothing.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        RunDir(dir.into())
    }
    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }
    /// One line a step.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }
    /// One directory a checkpoint.
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }
    /// The trained model; its presence means that the run is finished.
    pub fn model(&self) -> PathBuf {
        self.0.join("model")
    }
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
    let dir = RunDir::new(&config.output_dir);
    if restart {
        discard(&dir)?;
    }
    claim(&dir, config)?;
    if dir.model().is_dir() {
        return Ok(Finish::Done { model: dir.model(), already: true });
    }

    let source = &config.model_name_or_path;
    let model_config = Config::from_dir(source)?;
    if let Some(positions) = model_config.spec().max_positions.filter(|positions| config.max_length > *positions) {
        return Err(TrainError::Config {
            origin: dir.config(),
            line: None,
            message: format!(
                "`max_length` is {}, but {} has {positions} positions; set max_length = {positions} or less",
                config.max_length,
                source.display()
            ),
        });
    }
    let tokenizer = ChatTokenizer::from_model_dir(source)?;
    let resumed = checkpoint::list(&dir.checkpoints())?.pop();
    let step = resumed.as_ref().map_or(0, |checkpoint| checkpoint.step);
    let go_on = || if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    if resumed.is_none() {
        let Some(reports) = preflight::preflight(config, &tokenizer, &|_| go_on()).map_err(DatasetError::from)? else {
            return Ok(Finish::Stopped { step });
        };
        watch(Event::Checked(&reports));
        preflight::refuse(config, &reports)?;
    }
    let rows = row::load(config, &tokenizer, &mut |done, total| {
        watch(Event::Tokenizing { done, total });
        go_on()
    })?;
    let Some(rows) = rows else { return Ok(Finish::Stopped { step }) };
    watch(Event::Data(&rows));
    let rows = rows.train;

    let start = || initial(config, &model_config);
    let decoder = match &resumed {
        Some(checkpoint) => checkpoint.decoder()?,
        None => start()?,
    };
    let needs_reference = objective.needs_reference();
    let needs_mismatched = objective.needs_mismatched();
    let mut learner = Learner::new(decoder, objective, config)?;
    if let Some(checkpoint) = &resumed {
        checkpoint.restore(&mut learner)?;
    }
    let mut references: Vec<RowLogps> = Vec::new();
    if needs_reference {
        watch(Event::Reference);
        let reference = start()?;
        references = row_logps(&reference, &rows, config.per_device_train_batch_size)?;
        if needs_mismatched {
            learner.keep_reference(reference);
        }
    }

    let done = resumed.map_or(0, |checkpoint: Checkpoint| checkpoint.step);
    let mut run = Steps { config, dir: &dir, rows: &rows, references: &references, tokenizer: &tokenizer, learner };
    run.take(done, stop, watch)
}

/// The weights that step 0 sees.
fn initial(config: &TrainConfig, model_config: &Config) -> Result<Decoder, TrainError> {
    Ok(match config.init {
        Init::Pretrained => Decoder::load(&config.model_name_or_path)?,
        Init::Random => {
            let std = config.embedding_std.unwrap_or(model_config.spec().initializer_range);
            Decoder::init_with_embedding_std(model_config, config.seed, std)?
        }
    })
}

/// Removes what an earlier run left; anything else in the directory stays.
fn discard(dir: &RunDir) -> Result<(), TrainError> {
    let remove = |path: PathBuf, outcome: std::io::Result<()>| match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&path, "remove")(error)),
        _ => Ok(()),
    };
    for path in [dir.checkpoints(), dir.model()] {
        let outcome = fs::remove_dir_all(&path);
        remove(path, outcome)?;
    }
    for path in [dir.metrics(), dir.config()] {
        let outcome = fs::remove_file(&path);
        remove(path, outcome)?;
    }
    Ok(())
}

/// Writes the resolved configuration, or refuses a directory that holds another run.
fn claim(dir: &RunDir, config: &TrainConfig) -> Result<(), TrainError> {
    let path = dir.config();
    match fs::read_to_string(&path) {
        Ok(text) => {
            let earlier = TrainConfig::parse(&text, &path, &[])?;
            let keys = config.differing_keys(&earlier);
            if keys.is_empty() { Ok(()) } else { Err(TrainError::OtherRun { dir: config.output_dir.clone(), keys }) }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(&config.output_dir).map_err(io(&config.output_dir, "create"))?;
            let text = toml::to_string(config).map_err(|error| TrainError::Config {
                origin: path.clone(),
                line: None,
                message: error.to_string(),
            })?;
            let partial = path.with_extension("toml.partial");
            fs::write(&partial, text).map_err(io(&partial, "write"))?;
            fs::rename(&partial, &path).map_err(io(&path, "create"))
        }
        Err(source) => Err(TrainError::Io { path, action: "read", source }),
    }
}

/// The loop.
struct Steps<'a> {
    config: &'a TrainConfig,
    dir: &'a RunDir,
    rows: &'a [Row],
    references: &'a [RowLogps],
    tokenizer: &'a ChatTokenizer,
    learner: Learner,
}

impl Steps<'_> {
    fn take(&mut self, done: u64, stop: &AtomicBool, watch: &mut dyn FnMut(Event<'_>)) -> Result<Finish, TrainError> {
        let total_steps = self.config.total_steps(self.rows.len());
        let rate = self.config.learning_rate(total_steps);
        let mut log = MetricsLog::open(&self.dir.metrics(), done)?;
        let per_epoch = self.config.steps_per_epoch(self.rows.len());
        let batch_size = self.config.batch_size();
        // The rows of a step are a slice of its epoch's order, which is drawn once an epoch.
        let mut shuffled: Option<(u64, Vec<usize>)> = None;
        watch(Event::Started { total_steps, done });
        for step in done..total_steps {
            if stop.load(Ordering::SeqCst) {
                self.save(step, watch)?;
                return Ok(Finish::Stopped { step });
            }
            let began = Instant::now();
            let (epoch, within) = (step / per_epoch, (step % per_epoch) as usize);
            if shuffled.as_ref().is_none_or(|(of, _)| *of != epoch) {
                shuffled = Some((epoch, order(self.rows.len(), epoch, self.config.seed)));
            }
            let indices = shuffled.iter().flat_map(|(_, order)| order.chunks(batch_size).nth(within)).flatten();
            let rows: Vec<StepRow<'_>> = indices
                .map(|&index| StepRow { row: &self.rows[index], reference: self.references.get(index) })
                .collect();
            let tokenizer = self.tokenizer;
            let lr = rate.at(step);
            let margin = self.learner.objective().target_margin(step, total_steps);
            let outcome = self.learner.step(&rows, &|id| tokenizer.is_terminator(id), step, margin, lr)?;
            let tokens: usize = rows.iter().map(|row| row.row.tokens()).sum();
            let record = StepRecord {
                step: step + 1,
                epoch: (step + 1) as f64 / per_epoch as f64,
                metrics: outcome.evaluation.metrics(),
                lr,
                grad_norm: outcome.grad_norm,
                tokens_per_s: tokens as f64 / began.elapsed().as_secs_f64(),
            };
            log.append(&record)?;
            watch(Event::Step(&record));
            let due = self.config.save_steps.is_some_and(|every| (step + 1) % every == 0);
            if due && step + 1 < total_steps {
                self.save(step + 1, watch)?;
            }
        }
        self.finish()
    }

    fn save(&self, step: u64, watch: &mut dyn FnMut(Event<'_>)) -> Result<(), TrainError> {
        let checkpoints = self.dir.checkpoints();
        let path = checkpoint::save(&checkpoints, step, &self.learner, &self.config.model_name_or_path)?;
        let all = checkpoint::list(&checkpoints)?;
        for old in checkpoint::superseded(&all, self.config.save_total_limit) {
            fs::remove_dir_all(&old.dir).map_err(io(&old.dir, "remove"))?;
        }
        watch(Event::Saved(&path));
        Ok(())
    }

    fn finish(&self) -> Result<Finish, TrainError> {
        let model = self.dir.model();
        let options = SaveOptions { source: Some(self.config.model_name_or_path.clone()), ..SaveOptions::default() };
        match self.learner.decoder().save(&model, &options) {
            Ok(()) => Ok(Finish::Done { model, already: false }),
            Err(ModelError::NotEmpty { path }) => Err(TrainError::Checkpoint {
                dir: path,
                reason: "expected no model directory of an unfinished run".to_owned(),
            }),
            Err(other) => Err(other.into()),
        }
    }
}
