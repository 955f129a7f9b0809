//! Sampling a suite: every sample on disk as soon as it exists, nothing sampled twice, Ctrl-C safe.
//!
//! `run.json` is written first. `samples.jsonl` grows line by line in the order samples finish; when the last one is
//! there it is rewritten in the order of the suite, so that its bytes do not depend on threads or interruptions. The
//! random stream of each sample depends on (seed, prompt, sample) alone. An interrupted run is resumed by running it
//! again: finished samples are kept, failed ones retried.

mod error;
mod fleet;
mod journal;
mod resume;
mod row;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use smpo_files::{DirLock, remove_leftovers};
use smpo_inference::{Completion, Fault, Generator, Guarded, InferenceError, Request, generate_each};
use smpo_results::{EvaluationDir, Measurement, RunManifest, Sample, files};

pub use error::RunError;
pub use fleet::{Incident, Supervision, sample_on_fleet};

use self::journal::Journal;
use crate::measure::{Measured, measure};
use crate::prompts::Prompt;
use crate::suite::Suite;

/// Failures in a row after which sampling gives up.
pub const MAX_FAILURES_IN_A_ROW: usize = 20;

/// Progress of sampling.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Samples that exist.
    pub done: usize,
    /// Samples of the whole suite.
    pub total: usize,
    /// Samples among `done` that the engine failed on.
    pub failed: usize,
    /// The error of the last of them.
    pub last_error: Option<Arc<str>>,
    /// Tokens generated per second since this call began; 0 before the first.
    pub tokens_per_second: f64,
    /// Seconds until all samples exist, at the pace of this call; absent before its first.
    pub eta_secs: Option<f64>,
}

/// Outcome of sampling.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampled {
    /// Every sample exists, in the order of the suite; some may have failed.
    All(Vec<Sample>),
    /// The stop flag was raised; running again resumes.
    Stopped(Progress),
}

/// Samples what is missing in `dir`, each generator on its own thread.
///
/// `on_progress` is called once at the start and after every sample. `stop` is read after each call: samples in flight
/// are finished and kept.
///
/// # Errors
/// [`RunError`]. Samples that exist stay on disk.
pub fn sample_suite(
    suite: &Suite,
    dir: &EvaluationDir,
    manifest: &RunManifest,
    generators: Vec<Box<dyn Generator>>,
    stop: &AtomicBool,
    mut on_progress: impl FnMut(Progress),
) -> Result<Sampled, RunError> {
    if generators.is_empty() {
        return Err(RunError::NoGenerator);
    }
    let (_lock, mut run, requests) = begin(suite, dir, manifest)?;
    on_progress(run.progress.clone());

    let mut generators: Vec<Guarded<_>> = generators.into_iter().map(Guarded).collect();
    if !stop.load(Ordering::SeqCst) {
        generate_each(&mut generators, &requests, |index, result| {
            if run.finish(&requests[index], result).is_break() {
                return ControlFlow::Break(());
            }
            on_progress(run.progress.clone());
            if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
    run.end(suite, dir)
}

/// Locks the directory and reads what it has; the run so far, and the requests that are missing.
fn begin<'a>(
    suite: &'a Suite,
    dir: &EvaluationDir,
    manifest: &RunManifest,
) -> Result<(DirLock, Run<'a>, Vec<Request>), RunError> {
    let lock = DirLock::take(dir.path()).map_err(files::Error::from)?;
    let Some(lock) = lock else { return Err(RunError::Locked { dir: dir.path().to_owned() }) };
    remove_leftovers(dir.path()).map_err(files::Error::from)?;
    let samples = resume::resume(suite, dir, manifest)?;
    let requests = resume::missing(suite, &samples);
    Ok((lock, Run::new(suite, dir, samples)?, requests))
}

/// A run while its samples arrive.
struct Run<'a> {
    prompts: HashMap<&'a str, &'a Prompt>,
    journal: Journal,
    samples: Vec<Sample>,
    progress: Progress,
    /// Samples that existed before this call.
    resumed: usize,
    started: Instant,
    tokens: u64,
    failures_in_a_row: usize,
    /// Failures of the requests themselves, which any engine would refuse again.
    unusable: usize,
    outcome: Result<(), RunError>,
}

impl<'a> Run<'a> {
    fn new(suite: &'a Suite, dir: &EvaluationDir, samples: Vec<Sample>) -> Result<Self, RunError> {
        let total = suite.prompts.len() * suite.samples_per_prompt as usize;
        let resumed = samples.len();
        Ok(Run {
            prompts: suite.prompts.iter().map(|prompt| (prompt.id.as_str(), prompt)).collect(),
            journal: Journal::open(dir)?,
            samples,
            progress: Progress {
                done: resumed,
                total,
                failed: 0,
                last_error: None,
                tokens_per_second: 0.0,
                eta_secs: None,
            },
            resumed,
            started: Instant::now(),
            tokens: 0,
            failures_in_a_row: 0,
            unusable: 0,
            outcome: Ok(()),
        })
    }

    /// Records the result of a request, of one of several workers; breaks when the file cannot be written.
    fn record(
        &mut self,
        request: &Request,
        worker: Option<&str>,
        result: &Result<Completion, InferenceError>,
    ) -> ControlFlow<()> {
        // Requests are made from these prompts.
        let Some(prompt) = self.prompts.get(request.prompt_id.as_str()) else { return ControlFlow::Continue(()) };
        let sample = row::sample(prompt, request, worker, result);
        if let Err(error) = self.journal.append(&sample) {
            self.outcome = Err(error);
            return ControlFlow::Break(());
        }
        let progress = &mut self.progress;
        progress.done += 1;
        self.tokens += u64::from(sample.tokens.unwrap_or(0));
        let elapsed = self.started.elapsed().as_secs_f64().max(1e-9);
        progress.tokens_per_second = self.tokens as f64 / elapsed;
        let left = (progress.total - progress.done) as f64;
        progress.eta_secs = Some(elapsed * left / (progress.done - self.resumed) as f64);
        self.samples.push(sample);
        if let Err(error) = result {
            progress.failed += 1;
            self.unusable += usize::from(error.fault() == Fault::Request);
            progress.last_error = Some(error.to_string().into());
        }
        ControlFlow::Continue(())
    }

    /// Records the result of a request; breaks when the run cannot continue.
    fn finish(&mut self, request: &Request, result: Result<Completion, InferenceError>) -> ControlFlow<()> {
        self.record(request, None, &result)?;
        let Err(last) = result else {
            self.failures_in_a_row = 0;
            return ControlFlow::Continue(());
        };
        self.failures_in_a_row += 1;
        let nothing_sampled = self.progress.failed == self.progress.done - self.resumed;
        if last.is_fatal() && nothing_sampled && self.outcome.is_ok() {
            self.outcome = Err(RunError::Fatal(last));
            return ControlFlow::Break(());
        }
        // Those in flight still arrive after the break; the first error stands.
        if nothing_sampled && self.unusable >= MAX_FAILURES_IN_A_ROW && self.outcome.is_ok() {
            self.outcome = Err(RunError::Unusable { count: self.unusable, last: last.to_string() });
            return ControlFlow::Break(());
        }
        if self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW && self.outcome.is_ok() {
            self.outcome = Err(RunError::Failing { count: self.failures_in_a_row, last });
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// The outcome: all samples in the order of the suite, on disk too, or those that exist.
    fn end(self, suite: &Suite, dir: &EvaluationDir) -> Result<Sampled, RunError> {
        self.outcome?;
        if self.samples.len() < self.progress.total {
            return Ok(Sampled::Stopped(self.progress));
        }
        if let Some(last) = self.progress.last_error.filter(|_| self.unusable == self.progress.total) {
            return Err(RunError::Unusable { count: self.unusable, last: last.to_string() });
        }
        let mut samples = self.samples;
        resume::sort(suite, &mut samples);
        files::write_jsonl(&dir.samples(), "sample", &samples)?;
        Ok(Sampled::All(samples))
    }
}

/// Measures the samples and writes `run.json`, `measurements.jsonl` and, last, `metrics.json`.
///
/// # Errors
/// [`files::Error`]: a file cannot be written.
pub fn write_results(
    dir: &EvaluationDir,
    manifest: &RunManifest,
    samples: &[Sample],
    teacher_forced: Vec<Measurement>,
) -> Result<Measured, files::Error> {
    let measured = measure(samples, teacher_forced);
    write_measured(dir, manifest, &measured)?;
    Ok(measured)
}

/// Writes `run.json`, `measurements.jsonl` and, last, `metrics.json`.
pub(crate) fn write_measured(
    dir: &EvaluationDir,
    manifest: &RunManifest,
    measured: &Measured,
) -> Result<(), files::Error> {
    files::write_json(&dir.manifest(), "run manifest", manifest)?;
    files::write_each_jsonl(&dir.measurements(), "measurement", measured.measurements.rows().map(Ok))?;
    files::write_json(&dir.metrics(), "metrics file", &measured.metrics)
}
