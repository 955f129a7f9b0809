//! Running the stages of a plan.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use smpo_files::{DirLock, FileError, create_dirs, exists, move_to, remove_dir_whole, remove_leftovers_of};

use crate::key::key;
use crate::record::{self, Record, State, is_result};
use crate::{Kind, Plan, RecipeError, Stage};

/// The program of the stages, its threads and its stop flag.
#[derive(Debug, Clone)]
pub struct Runner<'a> {
    /// This program.
    pub program: PathBuf,
    /// Threads of each stage.
    pub threads: usize,
    /// Raised to stop: stages in flight are asked to stop, and keep what they have.
    pub stop: &'a AtomicBool,
}

/// Progress of a plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// Nothing to do: done earlier with the same inputs.
    Skipped(&'a Stage),
    /// Results of an earlier command or of other inputs were set aside.
    SetAside {
        /// The stage.
        stage: &'a Stage,
        /// Their place now.
        to: PathBuf,
    },
    /// Started; `again` if it was interrupted before.
    Started {
        /// The stage.
        stage: &'a Stage,
        /// It goes on from an interrupted call.
        again: bool,
    },
    /// Finished.
    Finished {
        /// The stage.
        stage: &'a Stage,
        /// Exit code: 0, or a gate's 1 or 3.
        exit: i32,
        /// Seconds of this call.
        seconds: f64,
    },
}

/// Result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All stages are done.
    Done,
    /// It was stopped; the same call goes on.
    Stopped,
}

/// Time between two looks at the stages in flight.
const POLL: Duration = Duration::from_millis(50);

/// Lines of a failed stage's output in the error.
const TAIL: usize = 12;

/// Each stage's state, for a plan that is to be shown. A stage after one that is not done is not known to be done.
///
/// # Errors
/// An input cannot be read.
pub fn states(plan: &Plan) -> Result<Vec<State>, RecipeError> {
    let keys = keys(plan)?;
    let mut states: Vec<State> = Vec::new();
    for (stage, key) in plan.stages.iter().zip(&keys) {
        let earlier = record::read(&plan.out, &stage.name)?;
        let state = Record::state(earlier.as_ref(), stage.kind, key);
        let removed = matches!(state, State::Done { .. }) && !exists(&stage.output)?;
        states.push(if removed { State::Changed } else { state });
    }
    Ok(states)
}

/// The key of each stage: a function of commands and outside files alone, so it is known before anything runs.
fn keys(plan: &Plan) -> Result<Vec<String>, RecipeError> {
    let mut keys: Vec<String> = Vec::new();
    for stage in &plan.stages {
        let before: Vec<String> = stage.after.iter().map(|&stage| keys[stage].clone()).collect();
        keys.push(key(&stage.arguments, &before, &stage.inputs)?);
    }
    Ok(keys)
}

/// Runs what is missing of a plan. `on_event` is called as stages start and end.
///
/// # Errors
/// The first stage that fails; those in flight are finished first and kept.
pub fn run(plan: &Plan, runner: &Runner<'_>, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome, RecipeError> {
    let lock = DirLock::take(&plan.out)?;
    let Some(_lock) = lock else { return Err(RecipeError::Locked { out: plan.out.clone() }) };
    let keys = keys(plan)?;
    let mut run = Run { plan, runner, keys, done: vec![false; plan.stages.len()], flight: Vec::new(), failure: None };
    loop {
        let stopping = run.failure.is_some() || runner.stop.load(Ordering::SeqCst);
        if !stopping {
            if let Err(error) = run.start_ready(on_event) {
                run.failure = Some(error);
            }
        } else if runner.stop.load(Ordering::SeqCst) {
            run.ask_to_stop();
        }
        if run.flight.is_empty() {
            break;
        }
        std::thread::sleep(POLL);
        run.collect(on_event)?;
    }
    match run.failure {
        Some(_) if runner.stop.load(Ordering::SeqCst) => Ok(Outcome::Stopped),
        Some(failure) => Err(failure),
        None if run.done.iter().all(|done| *done) => Ok(Outcome::Done),
        None => Ok(Outcome::Stopped),
    }
}

/// A stage in flight.
struct Flight {
    stage: usize,
    child: Child,
    started: Instant,
    /// It was asked to stop.
    asked: bool,
}

struct Run<'a> {
    plan: &'a Plan,
    runner: &'a Runner<'a>,
    keys: Vec<String>,
    done: Vec<bool>,
    flight: Vec<Flight>,
    failure: Option<RecipeError>,
}

impl Run<'_> {
    /// Starts or skips every stage whose earlier stages are done, as many as may run side by side: those of later kinds first, so
    /// that a model is evaluated before the next one is trained.
    fn start_ready(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<(), RecipeError> {
        if self.flight.len() >= self.plan.jobs {
            return Ok(());
        }
        self.skip_done(on_event)?;
        for index in self.plan.later_kinds_first() {
            if self.flight.len() >= self.plan.jobs {
                break;
            }
            if self.is_ready(index) {
                self.begin(index, on_event)?;
            }
        }
        Ok(())
    }

    /// Not begun here, and all earlier stages are done.
    fn is_ready(&self, index: usize) -> bool {
        let begun = self.done[index] || self.flight.iter().any(|flight| flight.stage == index);
        !begun && self.plan.stages[index].after.iter().all(|&before| self.done[before])
    }

    /// Passes over ready stages that an earlier call has done.
    fn skip_done(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<(), RecipeError> {
        for index in 0..self.plan.stages.len() {
            if !self.is_ready(index) {
                continue;
            }
            let stage = &self.plan.stages[index];
            let earlier = record::read(&self.plan.out, &stage.name)?;
            let state = Record::state(earlier.as_ref(), stage.kind, &self.keys[index]);
            if matches!(state, State::Done { .. }) && exists(&stage.output)? {
                // a later stage in this same pass may follow it
                self.done[index] = true;
                on_event(Event::Skipped(stage));
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, on_event: &mut dyn FnMut(Event<'_>)) -> Result<(), RecipeError> {
        let stage = &self.plan.stages[index];
        let earlier = record::read(&self.plan.out, &stage.name)?;
        let state = Record::state(earlier.as_ref(), stage.kind, &self.keys[index]);
        if let Some(pid) = earlier.as_ref().filter(|earlier| earlier.is_running()).and_then(|earlier| earlier.pid) {
            return Err(RecipeError::StillRunning { stage: stage.name.clone(), pid });
        }
        let resumes = state == State::Begun;
        if !resumes && exists(&stage.output)? {
            let to = self.set_aside(stage, earlier.as_ref())?;
            on_event(Event::SetAside { stage, to });
        }
        if resumes && stage.kind.refuses_its_output() && exists(&stage.output)? {
            // ended, and killed before that was recorded: the same command writes the same again
            remove_dir_whole(&stage.output)?;
        }
        if earlier.is_some() {
            remove_leftovers_of(&stage.output)?;
        }
        self.start(index)?;
        on_event(Event::Started { stage, again: resumes });
        Ok(())
    }

    /// Moves what an earlier command wrote out of the way.
    fn set_aside(&self, stage: &Stage, earlier: Option<&Record>) -> Result<PathBuf, RecipeError> {
        let key = earlier.map_or("unknown", |earlier| earlier.key.get(..8).unwrap_or("unknown"));
        let name = stage.name.replace('/', "--");
        let dir = self.plan.out.join("superseded");
        let free = (0..).map(|count| match count {
            0 => dir.join(format!("{name}-{key}")),
            count => dir.join(format!("{name}-{key}-{count}")),
        });
        let to = free.into_iter().find(|to| !to.exists()).unwrap_or_else(|| dir.join(&name));
        move_to(&stage.output, &to)?;
        Ok(to)
    }

    fn log(&self, stage: &Stage) -> PathBuf {
        self.plan.out.join("logs").join(format!("{}.log", stage.name.replace('/', "--")))
    }

    fn start(&mut self, index: usize) -> Result<(), RecipeError> {
        let stage = &self.plan.stages[index];
        let log = self.log(stage);
        for dir in [log.parent(), stage.output.parent()].into_iter().flatten() {
            create_dirs(dir)?;
        }
        let file = File::options().create(true).append(true).open(&log).map_err(FileError::at(&log, "open"))?;
        let errors = file.try_clone().map_err(FileError::at(&log, "open"))?;
        let start =
            |source| RecipeError::Start { stage: stage.name.clone(), program: self.runner.program.clone(), source };
        // before it starts: what a stage without a record has written would be set aside while the stage still writes
        self.record(index, None, 0.0, None)?;
        let child = Command::new(&self.runner.program)
            .args(&stage.arguments)
            .env("RAYON_NUM_THREADS", self.runner.threads.to_string())
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(start)?;
        self.flight.push(Flight { stage: index, child, started: Instant::now(), asked: false });
        let pid = self.flight.last().map(|flight| flight.child.id());
        self.record(index, None, 0.0, pid)
    }

    fn record(&self, index: usize, exit: Option<i32>, seconds: f64, pid: Option<u32>) -> Result<(), RecipeError> {
        let stage = &self.plan.stages[index];
        let command = record::without_secrets(&stage.arguments);
        let record = Record { schema: 1, key: self.keys[index].clone(), command, exit, seconds, pid };
        Ok(record::write(&self.plan.out, &stage.name, &record)?)
    }

    /// Takes in stages that have ended.
    fn collect(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<(), RecipeError> {
        let mut still = Vec::new();
        for mut flight in std::mem::take(&mut self.flight) {
            let stage = &self.plan.stages[flight.stage];
            let status = match flight.child.try_wait() {
                Ok(None) => {
                    still.push(flight);
                    continue;
                }
                Ok(Some(status)) => status,
                Err(source) => {
                    let program = self.runner.program.clone();
                    self.failure = Some(RecipeError::Start { stage: stage.name.clone(), program, source });
                    continue;
                }
            };
            let seconds = flight.started.elapsed().as_secs_f64();
            self.record(flight.stage, status.code(), seconds, None)?;
            match status.code() {
                Some(exit) if is_result(stage.kind, exit) => {
                    self.done[flight.stage] = true;
                    on_event(Event::Finished { stage, exit, seconds });
                }
                // stopped on request: what it has is kept
                _ if flight.asked || self.runner.stop.load(Ordering::SeqCst) => {}
                _ if self.failure.is_none() => {
                    let log = self.log(stage);
                    let (status, tail) = (status.to_string(), tail(&log));
                    self.failure = Some(RecipeError::Failed { stage: stage.name.clone(), status, log, tail });
                }
                _ => {}
            }
        }
        self.flight = still;
        Ok(())
    }

    /// Sends the stages in flight an interrupt, once. Those started from one terminal have had it already.
    fn ask_to_stop(&mut self) {
        for flight in self.flight.iter_mut().filter(|flight| !flight.asked) {
            flight.asked = true;
            let asked =
                Command::new("kill").args(["-INT", &flight.child.id().to_string()]).stderr(Stdio::null()).status();
            if !asked.is_ok_and(|status| status.success()) {
                // stages lose nothing to a kill but the time since their last checkpoint
                let _ = flight.child.kill();
            }
        }
    }
}

/// Exit codes of the gates, by stage.
impl Plan {
    /// The record of a stage, for what is shown alone.
    fn record(&self, stage: &Stage) -> Option<Record> {
        record::read(&self.out, &stage.name).ok().flatten()
    }

    /// The exit code of each gate that is done.
    pub fn gates(&self) -> Vec<(&Stage, i32)> {
        let gates = self.stages.iter().filter(|stage| stage.kind == Kind::Gate);
        gates.filter_map(|stage| Some((stage, self.record(stage)?.exit?))).collect()
    }

    /// Seconds that stages of each one's kind took on average, for an estimate; `None` where none was run.
    pub fn estimates(&self) -> Vec<Option<f64>> {
        let measured: Vec<Option<f64>> = self
            .stages
            .iter()
            .map(|stage| self.record(stage).filter(|record| record.exit.is_some()))
            .map(|record| record.map(|record| record.seconds))
            .collect();
        let of = |stage: &Stage| {
            let alike = self.stages.iter().zip(&measured).filter(|(other, _)| other.kind == stage.kind);
            let seconds: Vec<f64> = alike.filter_map(|(_, seconds)| *seconds).collect();
            (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
        };
        self.stages.iter().zip(&measured).map(|(stage, own)| own.or_else(|| of(stage))).collect()
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
