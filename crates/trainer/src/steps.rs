//! The training loop: optimizer steps, their figures, evaluations, alarms and checkpoints.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use smpo_data::{Row, TokenizedCompletion, order};
use smpo_devices::OpenDevice;
use smpo_tracking::{Follower, Settings, Status};

use crate::checkpoint::{self, After, Checkpoint, LoopState, Sources};
use crate::config::{Due, Interval, Reporter, TrainConfig};
use crate::early_stopping::{Action, Rules};
use crate::error::{TrainError, io};
use crate::event::{Event, Finish};
use crate::held_out::HeldOut;
use crate::learner::{Learner, StepOutcome};
use crate::memory_budget::MemoryBudget;
use crate::openmetrics::Snapshot;
use crate::origin::Origin;
use crate::probe::Probe;
use crate::ranks::Ranks;
use crate::record::{Figure, MetricsLog, StepRecord, Update};
use crate::run_dir::RunDir;
use crate::schedule::LearningRate;
use crate::scoring::{RowLogps, StepRow};
use crate::tensorboard::EventFile;

/// A run, ready to take steps.
pub(crate) struct Steps<'a> {
    pub config: &'a TrainConfig,
    pub dir: &'a RunDir,
    pub rows: &'a [Row],
    pub references: &'a [RowLogps],
    /// For each row the index of one with another prompt, where KTO's baseline needs it; else empty.
    pub partners: Vec<usize>,
    pub held_out: Option<HeldOut>,
    pub probe: Option<Probe<'a>>,
    pub device: &'a OpenDevice,
    pub tokenizer_dir: &'a Path,
    /// Fingerprints of rows and models.
    pub origin: &'a Origin,
    /// True once the run directory is this run's: a run that fails before its first step leaves it to the next.
    pub claimed: bool,
    pub learner: Learner,
    pub state: LoopState,
    pub rules: Rules,
    /// The value of the last step that was not finite, if it was skipped, and its name.
    pub not_finite: Option<(&'static str, f64)>,
}

/// Files that a run's figures are written to.
struct Logs {
    metrics: MetricsLog,
    events: Option<EventFile>,
    snapshot: Option<Snapshot>,
    mlflow: Option<Follower>,
}

impl Logs {
    /// Opens those that the configuration names, for a run that resumes after `resumed` steps.
    fn open(config: &TrainConfig, dir: &RunDir, resumed: Option<u64>) -> Result<Self, TrainError> {
        let reports_to = |reporter| config.report_to.contains(&reporter);
        let next = resumed.map_or(0, |step| step + 1);
        let events = reports_to(Reporter::Tensorboard).then(|| EventFile::create(&dir.tensorboard(), next));
        let follow = || -> Result<Follower, TrainError> {
            let follower = Follower::start(dir.path(), Settings::from_env()?, &dir.name(), next);
            follower.map_err(io(dir.path(), "start a thread for"))
        };
        Ok(Logs {
            metrics: MetricsLog::open(&dir.metrics(), resumed)?,
            events: events.transpose()?,
            snapshot: reports_to(Reporter::Openmetrics).then(|| Snapshot::new(dir.openmetrics(), &dir.name())),
            mlflow: reports_to(Reporter::Mlflow).then(follow).transpose()?,
        })
    }

    fn append(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        self.metrics.append(record)?;
        if let Some(events) = &mut self.events {
            events.append(record)?;
        }
        self.snapshot.as_mut().map_or(Ok(()), |snapshot| snapshot.write(record))
    }

    /// Remarks on what is sent elsewhere.
    fn notes(&self) -> Vec<String> {
        self.mlflow.as_ref().map(Follower::notes).unwrap_or_default()
    }

    /// Ends what is sent elsewhere; gives the last remarks.
    fn finish(self, outcome: &Result<Finish, TrainError>) -> Vec<String> {
        let status = match outcome {
            Ok(Finish::Done { .. }) => Status::Finished,
            Ok(Finish::Stopped { .. }) => Status::Killed,
            Err(_) => Status::Failed,
        };
        self.mlflow.map(|follower| follower.finish(status)).unwrap_or_default()
    }
}

/// Sizes and schedules of a run.
struct Plan {
    total_steps: u64,
    steps_per_epoch: u64,
    /// Steps with a checkpoint; `None` saves after the last alone.
    save: Option<Due>,
    /// Steps with an evaluation.
    evaluate: Due,
    learning_rate: LearningRate,
    /// True if some completion did not end: every step then says how many of its own did not.
    counts_unfinished: bool,
}

/// The rows of each step: slices of an epoch's order, which is drawn once an epoch.
pub(crate) struct Batches {
    rows: usize,
    size: usize,
    per_epoch: u64,
    seed: u64,
    epoch: Option<(u64, Vec<usize>)>,
}

impl Batches {
    /// The batches of a configuration over some rows.
    pub(crate) fn new(rows: usize, config: &TrainConfig) -> Self {
        let (size, per_epoch) = (config.batch_size(), config.steps_per_epoch(rows));
        Batches { rows, size, per_epoch, seed: config.seed, epoch: None }
    }

    /// Rows of step `index`, from 0.
    pub(crate) fn rows_of(&mut self, index: u64) -> &[usize] {
        let (epoch, within) = (index / self.per_epoch, (index % self.per_epoch) as usize);
        let order = match self.epoch.take() {
            Some((drawn, order)) if drawn == epoch => order,
            _ => order(self.rows, epoch, self.seed),
        };
        let (_, order) = self.epoch.insert((epoch, order));
        order.chunks(self.size).nth(within).unwrap_or_default()
    }
}

impl Steps<'_> {
    /// Takes the steps after those of a checkpoint, or all of them, until the last one or until `stop`.
    pub(crate) fn take(
        &mut self,
        resumed: Option<u64>,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Finish, TrainError> {
        let since = self.origin.since;
        let total_steps = self.config.total_steps_since(since, self.rows.len());
        let steps_per_epoch = self.config.steps_per_epoch(self.rows.len());
        let every = |interval: Interval| interval.due(total_steps, steps_per_epoch, since);
        let plan = Plan {
            total_steps,
            steps_per_epoch,
            save: self.config.save_steps.map(every),
            evaluate: every(self.config.eval_steps.unwrap_or(Interval::Epoch)),
            learning_rate: self.config.learning_rate(total_steps),
            counts_unfinished: self.rows.iter().flat_map(Row::completions).any(|side| !side.finished()),
        };
        let mut logs = self.learner.ranks().clone().lead(|| Logs::open(self.config, self.dir, resumed))?;
        watch(Event::Started { total_steps, done: resumed.unwrap_or(0) });
        let outcome = self.take_logged(resumed, &plan, logs.as_mut(), stop, watch);
        for note in logs.map(|logs| logs.finish(&outcome)).unwrap_or_default() {
            watch(Event::Note(&note));
        }
        outcome
    }

    /// Takes the steps of a plan, each written to `logs`.
    fn take_logged(
        &mut self,
        resumed: Option<u64>,
        plan: &Plan,
        mut logs: Option<&mut Logs>,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Finish, TrainError> {
        let (done, total_steps, since) = (resumed.unwrap_or(0), plan.total_steps, self.origin.since);
        let ranks = self.learner.ranks().clone();
        let mut batches = Batches::new(self.rows.len(), self.config);
        if resumed.is_none() {
            self.before(&ranks, logs.as_deref_mut(), plan.evaluate, watch)?;
        }
        // Steps are numbered from 0 where they are taken (`index`), and by the steps taken in records and checkpoints.
        for index in done..total_steps {
            if self.state.early_stopping.stopped().is_some() {
                break;
            }
            if ranks.any(stop.load(Ordering::SeqCst))? {
                // Before the first step there is nothing to keep.
                if index > 0 {
                    self.save(index, true, logs.as_deref(), watch)?;
                }
                return Ok(Finish::Stopped { step: index });
            }
            let record = self.step(index, batches.rows_of(index - since), plan, watch)?;
            self.claim()?;
            // The line first: were the checkpoint first, a run killed in between would never write the line.
            ranks.agree(logs.as_deref_mut().map_or(Ok(()), |logs| logs.append(&record)))?;
            watch(Event::Step(&record));
            for note in logs.as_deref().map(Logs::notes).unwrap_or_default() {
                watch(Event::Note(&note));
            }
            for alarm in self.state.alarms.observe(&self.config.alarms, &record) {
                watch(Event::Alarm(&alarm));
            }
            let save = self.judge(&record);
            let periodic = plan.save.is_some_and(|due| due.at(record.step));
            let due = record.step < total_steps && periodic;
            // A model that gave no finite step may be broken: it must not take the place of one that is not.
            if save || due && self.not_finite.is_none() {
                self.save(record.step, false, logs.as_deref(), watch)?;
            }
        }
        self.claim()?;
        // a finished run takes no step again, whose line may be missing
        ranks.agree(logs.as_deref().map_or(Ok(()), |logs| logs.metrics.sync()))?;
        self.finish(total_steps)
    }

    /// Takes step `index`, from 0, and measures what is due after it.
    fn step(
        &mut self,
        index: u64,
        batch: &[usize],
        plan: &Plan,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<StepRecord, TrainError> {
        let began = Instant::now();
        let live = self.learner.live_references(&batch.iter().map(|&row| &self.rows[row]).collect::<Vec<_>>())?;
        let of_data = |(place, &row): (usize, &usize)| StepRow {
            row: &self.rows[row],
            reference: live.get(place).or_else(|| self.references.get(row)),
            other: self.partners.get(row).map(|&other| &self.rows[other]),
        };
        let rows: Vec<StepRow<'_>> = batch.iter().enumerate().map(of_data).collect();
        let lr = plan.learning_rate.at(index);
        let outcome = self.learner.step(&rows, index, lr);
        let tokens: usize = rows.iter().map(|row| row.row.tokens()).sum();
        let seconds = began.elapsed().as_secs_f64();
        let step = index + 1;
        let (mut metrics, grad_norm) = match outcome {
            Ok(StepOutcome { evaluation, grad_norm, loss_scale, balance }) => {
                self.not_finite = None;
                let scale = loss_scale.map(|scale| ("loss_scale", scale));
                let balance = balance.map(|loss| ("router_aux_loss", loss));
                let named = evaluation.metrics().into_iter().chain(scale).chain(balance);
                (named.map(|(name, value)| (name.into(), value)).collect(), grad_norm)
            }
            Err(error) => self.skip(step, error, watch)?,
        };
        self.learner.sync_reference(step)?;
        if plan.counts_unfinished {
            metrics.extend(unfinished(&rows));
        }
        metrics.extend(self.measure(step, Some(plan.total_steps), plan.evaluate)?);
        Ok(StepRecord {
            step,
            epoch: (step - self.origin.since) as f64 / plan.steps_per_epoch as f64,
            metrics,
            update: Some(Update { lr, grad_norm, tokens_per_s: tokens as f64 / seconds }),
        })
    }

    /// Measures the model before training.
    fn before(
        &mut self,
        ranks: &Ranks,
        mut logs: Option<&mut Logs>,
        evaluate: Due,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), TrainError> {
        let parameters = self.learner.decoder().parameter_count();
        if let Some(alarm) = self.state.alarms.before(self.config, parameters) {
            watch(Event::Alarm(&alarm));
        }
        let metrics = self.measure(0, None, evaluate)?;
        if metrics.is_empty() {
            return Ok(());
        }
        let record = StepRecord { step: 0, epoch: 0.0, metrics, update: None };
        ranks.agree(logs.as_deref_mut().map_or(Ok(()), |logs| logs.append(&record)))?;
        watch(Event::Step(&record));
        if self.judge(&record) {
            self.save(0, false, logs.as_deref(), watch)?;
        }
        Ok(())
    }

    /// Evaluates and probes where that is due; at step 0 and after the last step it always is.
    fn measure(&mut self, step: u64, last: Option<u64>, evaluate: Due) -> Result<Vec<Figure>, TrainError> {
        let ends = step == 0 || last == Some(step);
        let mut figures = Vec::new();
        if let Some(held_out) = self.held_out.as_ref().filter(|_| ends || evaluate.at(step)) {
            figures.extend(held_out.evaluate(&self.learner, step)?);
        }
        if let Some(probe) = self.probe.as_ref().filter(|probe| ends || step.is_multiple_of(probe.steps())) {
            let (decoder, ranks) = (self.learner.decoder(), self.learner.ranks());
            // As it is now, weights and moments in place.
            let model = (decoder, MemoryBudget::of(self.device));
            figures.extend(probe.run(model, step, &mut self.state.probe, &self.dir.probe(), ranks)?);
        }
        let name = &self.rules.best_metric;
        let judged = self.rules.keep_best || self.rules.patience.is_some();
        let family = if name.starts_with("probe/") { "probe/" } else { "eval_" };
        let names = || figures.iter().map(|(name, _)| name.as_ref()).filter(|name| name.starts_with(family));
        if judged && names().next().is_some() && names().all(|known| known != name) {
            let known = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(TrainError::NoSuchMetric { name: name.clone(), step, known });
        }
        Ok(figures)
    }

    /// Lets a step that is not finite pass without an update, unless there were too many.
    fn skip(
        &mut self,
        step: u64,
        error: TrainError,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Vec<Figure>, f64), TrainError> {
        let (what, value) = match &error {
            TrainError::NotFinite { what, value, .. } => (*what, *value),
            TrainError::Batch { source, .. } => match source.not_finite() {
                Some(given) => ("a log-prob", given),
                None => return Err(error),
            },
            _ => return Err(error),
        };
        self.state.skipped += 1;
        let message = format!("{what} is {value}: the step is skipped");
        if let Some(alarm) = self.state.alarms.not_finite(&self.config.alarms, step, &message) {
            watch(Event::Alarm(&alarm));
        }
        let allowed = self.config.max_skipped_steps;
        if self.state.skipped > allowed {
            return Err(TrainError::TooManySkipped { step, what, value, allowed });
        }
        self.not_finite = Some((what, value));
        Ok((vec![("skipped_steps".into(), self.state.skipped as f64)], f64::NAN))
    }

    /// True if a checkpoint follows. The end of the run is in the state of early stopping, which the checkpoint holds.
    fn judge(&mut self, record: &StepRecord) -> bool {
        self.state.early_stopping.observe(&self.rules, record).contains(&Action::Save)
    }

    fn sources(&self) -> Sources<'_> {
        Sources { base: &self.config.model_name_or_path, tokenizer: self.tokenizer_dir }
    }

    /// Makes the run directory this run's.
    fn claim(&mut self) -> Result<(), TrainError> {
        if !self.claimed {
            self.learner.ranks().lead(|| self.dir.claim(self.config, self.origin, self.rows))?;
            self.claimed = true;
        }
        Ok(())
    }

    fn save(
        &mut self,
        step: u64,
        interrupted: bool,
        logs: Option<&Logs>,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), TrainError> {
        self.claim()?;
        let path = self.learner.moments().lead(|| {
            logs.map_or(Ok(()), |logs| logs.metrics.sync())?;
            let checkpoints = self.dir.checkpoints();
            let after = After { step, interrupted };
            let path = checkpoint::save(&checkpoints, after, &self.learner, &self.state, self.origin, self.sources())?;
            self.remove_superseded()?;
            Ok(path)
        })?;
        if let Some(path) = path {
            watch(Event::Saved(&path));
        }
        Ok(())
    }

    /// Removes the checkpoints that later ones have replaced. One of an interruption, which a run without it would not have, does
    /// not count, and goes with the next.
    fn remove_superseded(&self) -> Result<(), TrainError> {
        let checkpoints = self.dir.checkpoints();
        let mut found = checkpoint::list(&checkpoints)?;
        let newest = found.pop();
        let (interrupted, mut regular): (Vec<_>, Vec<_>) = found.into_iter().partition(Checkpoint::is_interrupted);
        regular.extend(newest.filter(|newest| !newest.is_interrupted()));
        let steps: Vec<u64> = regular.iter().map(|found| found.step).collect();
        let superseded = self.state.early_stopping.superseded(&self.rules, &steps, self.config.save_total_limit);
        superseded
            .into_iter()
            .chain(interrupted.into_iter().map(|found| found.step))
            .try_for_each(|old| checkpoint::remove(&checkpoints, old))
    }

    /// Writes `model/`: the model as it is, or that of the checkpoint which is the result.
    fn finish(&self, last: u64) -> Result<Finish, TrainError> {
        let model = self.dir.model();
        let of_step = self.state.early_stopping.result(&self.rules);
        self.learner.ranks().lead(|| self.write_model(&model, of_step, last))?;
        Ok(Finish::Done { model, already: false, of_step, stopped: self.state.early_stopping.stopped() })
    }

    fn write_model(&self, model: &Path, of_step: Option<u64>, last: u64) -> Result<(), TrainError> {
        // Those that a run was about to remove when it was killed.
        self.remove_superseded()?;
        match (of_step, self.not_finite) {
            (Some(step), _) => {
                let checkpoint = self.dir.checkpoints().join(format!("step-{step}"));
                checkpoint::copy_model(&checkpoint.join("model"), model)?;
            }
            (None, Some((what, value))) => return Err(TrainError::NotFinite { step: last, what, value }),
            (None, None) => {
                self.learner.check_finite(last)?;
                checkpoint::save_model(self.learner.decoder(), model, self.sources())?;
            }
        }
        let checkpoints = self.dir.checkpoints();
        let newest = checkpoint::list(&checkpoints)?.pop().filter(Checkpoint::is_interrupted);
        newest.map_or(Ok(()), |newest| checkpoint::remove(&checkpoints, newest.step))
    }
}

/// Shares of a step's completions that did not end, on each side that the step has.
fn unfinished(rows: &[StepRow<'_>]) -> Vec<Figure> {
    let share = |name: &'static str, completions: Vec<&TokenizedCompletion>| {
        let cut = completions.iter().filter(|completion| !completion.finished()).count();
        (!completions.is_empty()).then(|| (name.into(), cut as f64 / completions.len() as f64))
    };
    let rows = || rows.iter().map(|row| row.row);
    let shares = [
        share("unfinished/chosen", rows().filter_map(|row| row.chosen.as_ref()).collect()),
        share("unfinished/rejected", rows().filter_map(|row| row.rejected.as_ref()).collect()),
        share("unfinished/group", rows().flat_map(|row| &row.group).map(|scored| &scored.completion).collect()),
    ];
    shares.into_iter().flatten().collect()
}
