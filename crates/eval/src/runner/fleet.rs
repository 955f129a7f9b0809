//! Sampling a suite on several servers or devices.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use smpo_inference::fleet::{Admission, Ending, News, Patience, Supervisor, Verdict, Worker, deal};
use smpo_inference::{Completion, InferenceError, Request};
use smpo_results::{EvaluationDir, RunManifest};

use super::{Progress, Run, RunError, Sampled, begin};
use crate::suite::Suite;

/// Admission of workers, and the ear of a run.
pub trait Supervision {
    /// As [`Supervisor::trial`].
    fn trial(&mut self, worker: usize, returning: bool) -> Admission;

    /// As [`Supervisor::verdict`].
    fn verdict(&mut self, worker: usize, completions: &[(Arc<Request>, Completion)]) -> Verdict;

    /// Something has happened; a break ends the run after the requests in flight.
    fn told(&mut self, incident: Incident) -> ControlFlow<()>;
}

/// Something that happens in a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Incident {
    /// A sample exists, or the run begins.
    Progress(Progress),
    /// A worker's standing changed.
    News(News),
    /// Nothing, for a moment.
    Idle,
}

/// Samples what is missing in `dir` as [`super::sample_suite`] does, on several workers.
///
/// # Errors
/// [`RunError`], [`RunError::NoneLeft`] among them. Samples that exist stay on disk.
pub fn sample_on_fleet(
    suite: &Suite,
    dir: &EvaluationDir,
    manifest: &RunManifest,
    workers: Vec<Worker>,
    patience: &Patience,
    supervision: &mut dyn Supervision,
) -> Result<Sampled, RunError> {
    if workers.iter().all(|worker| worker.generators.is_empty()) {
        return Err(RunError::NoGenerator);
    }
    let (_lock, run, requests) = begin(suite, dir, manifest)?;
    let requests: Arc<[Request]> = requests.into();
    let workers_named = workers.iter().map(|worker| (worker.name.clone(), String::new())).collect();
    let mut record = Record { run, requests: requests.clone(), workers: workers_named, supervision };
    if record.supervision.told(Incident::Progress(record.run.progress.clone())).is_break() {
        return record.run.end(suite, dir);
    }
    let ending = deal(workers, &requests, patience, &mut record);
    let Record { mut run, workers, .. } = record;
    if ending == Ending::NoneLeft && run.outcome.is_ok() {
        let (done, total) = (run.progress.done, run.progress.total);
        run.outcome = Err(RunError::NoneLeft { workers, done, total });
    }
    run.end(suite, dir)
}

/// A run as the fleet sees it.
struct Record<'a> {
    run: Run<'a>,
    requests: Arc<[Request]>,
    /// Name of each worker, and the last reason for which it was set aside.
    workers: Vec<(String, String)>,
    supervision: &'a mut dyn Supervision,
}

impl Supervisor for Record<'_> {
    fn trial(&mut self, worker: usize, returning: bool) -> Admission {
        self.supervision.trial(worker, returning)
    }

    fn verdict(&mut self, worker: usize, completions: &[(Arc<Request>, Completion)]) -> Verdict {
        let verdict = self.supervision.verdict(worker, completions);
        // The pace is that of samples.
        if self.run.progress.done == self.run.resumed {
            self.run.started = Instant::now();
        }
        verdict
    }

    fn finished(&mut self, index: usize, worker: usize, result: Result<Completion, InferenceError>) -> ControlFlow<()> {
        self.run.record(&self.requests[index], Some(&self.workers[worker].0), &result)?;
        self.supervision.told(Incident::Progress(self.run.progress.clone()))
    }

    fn news(&mut self, news: News) {
        if let News::SetAside { worker, reason, .. } = &news {
            self.workers[*worker].1.clone_from(reason);
        }
        // Standing changes between samples; the next one asks whether to go on.
        let _ = self.supervision.told(Incident::News(news));
    }

    fn waiting(&mut self) -> ControlFlow<()> {
        self.supervision.told(Incident::Idle)
    }
}
