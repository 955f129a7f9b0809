//! Sampling a suite: every sample on disk as soon as it exists, nothing sampled twice, Ctrl-C safe.
//!
//! `run.json` is written first. `samples.jsonl` grows line by line in the order samples finish; when the last one is
//! there it is rewritten in the order of the suite, so that its bytes do not depend on threads or interruptions. What
//! each sample draws depends on (seed, prompt, sample) alone. An interrupted run is resumed by running it again:
//! finished samples are kept, failed ones tried again.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use smpo_files::DirLock;
use smpo_inference::{Completion, EngineInfo, Generator, InferenceError, Request, generate_each};
use smpo_results::{EvaluationDir, FinishReason, Measurement, RunManifest, SCHEMA_VERSION, Sample, files};

use crate::measure::{Measured, measure};
use crate::prompts::Prompt;
use crate::suite::Suite;

/// After so many failures in a row nothing but failures is to be expected.
pub const MAX_FAILURES_IN_A_ROW: usize = 20;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Samples that exist.
    pub done: usize,
    /// Samples that the suite asks for.
    pub total: usize,
    /// Samples among `done` that the engine failed on.
    pub failed: usize,
    /// Tokens generated per second since this call began; 0 before the first.
    pub tokens_per_second: f64,
    /// Seconds until all samples exist, at the pace of this call; absent before its first.
    pub eta_secs: Option<f64>,
}

/// What sampling came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampled {
    /// Every sample exists, in the order of the suite; some may have failed.
    All(Vec<Sample>),
    /// The stop flag was raised; running again goes on from here.
    Stopped(Progress),
}

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file of the directory.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The operating system said no.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// The directory holds another run.
    #[error("{}: holds a run with another {field}: expected {expected}, found {found}; choose another directory or start afresh", dir.display())]
    OtherRun {
        /// The directory.
        dir: PathBuf,
        /// The first field that differs.
        field: &'static str,
        /// What this run asks for.
        expected: String,
        /// What the directory says.
        found: String,
    },
    /// Samples that belong to no run that could have written them here.
    #[error("{}: {problem}", path.display())]
    ForeignSample {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        problem: String,
    },
    /// Another process is at it.
    #[error("{}: another smpo is sampling into this directory; wait for it or choose another directory", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// Nothing but failures.
    #[error(
        "the engine failed {count} times in a row, the last time with: {last}; what exists is kept, running again goes on from there"
    )]
    Failing {
        /// How often.
        count: usize,
        /// The last error.
        last: InferenceError,
    },
    /// No generator was given.
    #[error("no generator to sample with")]
    NoGenerator,
}

/// Samples what is missing in `dir`, each generator on its own thread.
///
/// `progress` is called after every sample; `stop` is looked at then, too: samples in flight are finished and kept.
///
/// # Errors
/// [`RunError`]. Samples that exist stay on disk whatever happens.
pub fn sample_suite(
    suite: &Suite,
    dir: &EvaluationDir,
    manifest: &RunManifest,
    generators: Vec<Box<dyn Generator>>,
    stop: &AtomicBool,
    mut progress: impl FnMut(Progress),
) -> Result<Sampled, RunError> {
    if generators.is_empty() {
        return Err(RunError::NoGenerator);
    }
    let lock = DirLock::take(dir.path()).map_err(files::Error::from)?;
    let Some(_lock) = lock else { return Err(RunError::Locked { dir: dir.path().to_owned() }) };
    let mut samples = resume(suite, dir, manifest)?;
    let requests: Vec<Request> = missing(suite, &samples);
    let total = suite.prompts.len() * suite.samples_per_prompt as usize;
    let mut state = Progress { done: samples.len(), total, failed: 0, tokens_per_second: 0.0, eta_secs: None };
    let resumed = state.done;
    progress(state);

    let prompts: HashMap<&str, &Prompt> = suite.prompts.iter().map(|prompt| (prompt.id.as_str(), prompt)).collect();
    let mut journal = Journal::open(dir)?;
    let mut guarded: Vec<Guarded> = generators.into_iter().map(Guarded).collect();
    let (started, mut tokens, mut failures_in_a_row) = (Instant::now(), 0u64, 0);
    let mut outcome: Result<(), RunError> = Ok(());
    if !stop.load(Ordering::SeqCst) {
        generate_each(&mut guarded, &requests, |index, result| {
            let request = &requests[index];
            // Requests are made from these prompts.
            let Some(prompt) = prompts.get(request.prompt_id.as_str()) else { return ControlFlow::Continue(()) };
            let failure = match &result {
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            };
            let sample = finished(prompt, request, result.as_ref().ok(), failure);
            if let Err(error) = journal.append(&sample) {
                outcome = Err(error);
                return ControlFlow::Break(());
            }
            state.done += 1;
            tokens += u64::from(sample.tokens.unwrap_or(0));
            let elapsed = started.elapsed().as_secs_f64().max(1e-9);
            state.tokens_per_second = tokens as f64 / elapsed;
            state.eta_secs = Some(elapsed * (total - state.done) as f64 / (state.done - resumed) as f64);
            samples.push(sample);
            match result {
                Ok(_) => failures_in_a_row = 0,
                Err(last) => {
                    state.failed += 1;
                    failures_in_a_row += 1;
                    // Those in flight still arrive after the break; the first verdict stands.
                    if failures_in_a_row >= MAX_FAILURES_IN_A_ROW && outcome.is_ok() {
                        outcome = Err(RunError::Failing { count: failures_in_a_row, last });
                        return ControlFlow::Break(());
                    }
                }
            }
            progress(state);
            if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
    outcome?;
    if samples.len() < total {
        return Ok(Sampled::Stopped(state));
    }
    sort(suite, &mut samples);
    files::write_jsonl(&dir.samples(), "sample", &samples)?;
    Ok(Sampled::All(samples))
}

/// Measures the samples and writes `run.json`, `measurements.jsonl` and, last, `metrics.json`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_results(
    dir: &EvaluationDir,
    manifest: &RunManifest,
    samples: &[Sample],
    teacher_forced: Vec<Measurement>,
) -> Result<Measured, files::Error> {
    let measured = measure(samples, teacher_forced);
    files::write_json(&dir.manifest(), "run manifest", manifest)?;
    files::write_jsonl(&dir.measurements(), "measurement", &measured.measurements)?;
    files::write_json(&dir.metrics(), "metrics file", &measured.metrics)?;
    Ok(measured)
}

/// The sound samples that the directory already has. Leaves `run.json` and a `samples.jsonl` of exactly those.
fn resume(suite: &Suite, dir: &EvaluationDir, manifest: &RunManifest) -> Result<Vec<Sample>, RunError> {
    // An estimate of half the samples must not outlive the decision to take the other half.
    match std::fs::remove_file(dir.metrics()) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(RunError::Io { path: dir.metrics(), action: "remove", source });
        }
        _ => {}
    }
    if dir.manifest().exists() {
        let found: RunManifest = files::read_json(&dir.manifest(), "run manifest")?;
        if let Some((field, expected, found)) = differs(manifest, &found) {
            return Err(RunError::OtherRun { dir: dir.path().to_owned(), field, expected, found });
        }
    } else if dir.samples().exists() {
        let problem = "samples without a run.json that says where they come from; choose another directory".into();
        return Err(RunError::ForeignSample { path: dir.samples(), problem });
    }
    files::write_json(&dir.manifest(), "run manifest", manifest)?;
    let path = dir.samples();
    if !path.exists() {
        return Ok(Vec::new());
    }
    cut_torn_line(&path)?;
    let known: HashSet<&str> = suite.prompts.iter().map(|prompt| prompt.id.as_str()).collect();
    let mut by_key: HashMap<(String, u32), Sample> = HashMap::new();
    for sample in files::read_jsonl::<Sample>(&path, "sample")? {
        if !known.contains(sample.prompt_id.as_str()) || sample.sample >= suite.samples_per_prompt {
            let problem =
                format!("sample {} of prompt {:?} is none that this suite asks for", sample.sample, sample.prompt_id);
            return Err(RunError::ForeignSample { path, problem });
        }
        if sample.finish_reason != FinishReason::Error {
            by_key.insert((sample.prompt_id.clone(), sample.sample), sample);
        }
    }
    let mut samples: Vec<Sample> = by_key.into_values().collect();
    sort(suite, &mut samples);
    files::write_jsonl(&path, "sample", &samples)?;
    Ok(samples)
}

/// The first difference that makes samples of one run no samples of the other.
fn differs(asked: &RunManifest, found: &RunManifest) -> Option<(&'static str, String, String)> {
    if let Some(difference) = asked.incomparable(found) {
        return Some(difference);
    }
    let show = |value: &dyn std::fmt::Debug| format!("{value:?}");
    let fields = [
        ("model.source", show(&asked.model.source), show(&found.model.source)),
        ("model.weights_sha256", show(&asked.model.weights_sha256), show(&found.model.weights_sha256)),
        ("seed", show(&asked.seed), show(&found.seed)),
        ("versions", show(&asked.versions), show(&found.versions)),
    ];
    fields.into_iter().find(|(_, asked, found)| asked != found)
}

/// A crash may have left half a line at the end; whole lines are never rewritten.
fn cut_torn_line(path: &Path) -> Result<(), RunError> {
    let io = |action| move |source| RunError::Io { path: path.to_owned(), action, source };
    let bytes = std::fs::read(path).map_err(io("read"))?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        let file = OpenOptions::new().write(true).open(path).map_err(io("open"))?;
        file.set_len(whole as u64).map_err(io("shorten"))?;
    }
    Ok(())
}

fn missing(suite: &Suite, samples: &[Sample]) -> Vec<Request> {
    let there: HashSet<(&str, u32)> = samples.iter().map(|sample| (sample.prompt_id.as_str(), sample.sample)).collect();
    let wanted = suite.prompts.iter().flat_map(|prompt| (0..suite.samples_per_prompt).map(move |k| (prompt, k)));
    wanted
        .filter(|(prompt, sample)| !there.contains(&(prompt.id.as_str(), *sample)))
        .map(|(prompt, sample)| Request {
            prompt_id: prompt.id.clone(),
            sample,
            messages: prompt.messages.clone(),
            sampler: suite.sampler,
            max_tokens: suite.cap,
            seed: suite.seed,
        })
        .collect()
}

fn sort(suite: &Suite, samples: &mut [Sample]) {
    let order: HashMap<&str, usize> =
        suite.prompts.iter().enumerate().map(|(index, prompt)| (prompt.id.as_str(), index)).collect();
    samples.sort_by_key(|sample| (order.get(sample.prompt_id.as_str()).copied(), sample.sample));
}

fn finished(prompt: &Prompt, request: &Request, completion: Option<&Completion>, error: Option<String>) -> Sample {
    Sample {
        schema: SCHEMA_VERSION,
        prompt_id: prompt.id.clone(),
        slice: prompt.slice.clone(),
        sample: request.sample,
        messages: prompt.messages.clone(),
        reference: prompt.reference.clone(),
        closed: prompt.closed,
        language: prompt.language.clone(),
        completion: completion.map(|completion| completion.text.clone()).unwrap_or_default(),
        token_ids: completion.and_then(|completion| completion.token_ids.clone()),
        logps: completion.and_then(|completion| completion.logps.clone()),
        terminator_logps: completion.and_then(|completion| completion.terminator_logps.clone()),
        finish_reason: completion.map_or(FinishReason::Error, |completion| completion.finish),
        tokens: completion.and_then(|completion| completion.tokens),
        cap: Some(completion.map_or(request.max_tokens, |completion| completion.cap)),
        error,
    }
}

/// `samples.jsonl`, one flushed line at a time.
struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    fn open(dir: &EvaluationDir) -> Result<Self, RunError> {
        let path = dir.samples();
        match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Ok(Journal { path, file }),
            Err(source) => Err(RunError::Io { path, action: "open", source }),
        }
    }

    /// One write a line: a crash tears at most the last.
    fn append(&mut self, sample: &Sample) -> Result<(), RunError> {
        let io = |source| RunError::Io { path: self.path.clone(), action: "append to", source };
        let mut line = serde_json::to_vec(sample).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io)
    }
}

/// A generator whose panics are failures of one sample.
struct Guarded(Box<dyn Generator>);

impl Generator for Guarded {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        catch_unwind(AssertUnwindSafe(|| self.0.generate(request))).unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(InferenceError::Engine {
                prompt_id: request.prompt_id.clone(),
                sample: request.sample,
                engine: self.0.engine().name,
                message: format!("it panicked: {message}"),
            })
        })
    }

    fn engine(&self) -> EngineInfo {
        self.0.engine()
    }
}
