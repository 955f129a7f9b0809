//! One model on one suite: fidelity check, sampling, teacher-forced metrics, results on disk.

mod disagreement;
mod engines;
mod error;
mod fleet;
mod watch;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smpo_files::DirLock;
use smpo_results::{
    EvaluationDir, FidelityInfo, FinishReason, Measurement, MetricsFile, ModelInfo, Observed, RunManifest,
    SCHEMA_VERSION, Sample, files,
};

pub use disagreement::{Disagreement, disagreements};
pub use engines::{Engines, Server, Worker};
pub use error::EvaluateError;

use self::watch::Watch;
use crate::fidelity;
use crate::reward::measure_rewards;
use crate::runner::{Progress, RunError, Sampled, sample_suite, write_results};
use crate::suite::Suite;
use crate::teacher_forced::{measure_gold, measure_pairs, read_held_out};

/// Options of [`evaluate`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Evaluation directory; an interrupted evaluation resumes from it.
    pub out: PathBuf,
    /// Delete existing results in `out` first.
    pub restart: bool,
    /// Model, as `run.json` records it.
    pub model: ModelInfo,
    /// Further settings that shape the completions, recorded in `run.json` under `versions`.
    pub settings: BTreeMap<String, String>,
    /// Fidelity check.
    pub fidelity: FidelityCheck,
}

/// Comparison of the generators with the scorer before sampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FidelityCheck {
    /// Off.
    Skip,
    /// On.
    Run {
        /// Maximum |Δ log-prob|, in nats; the default of the engine's dtype when absent.
        tolerance: Option<f64>,
    },
}

impl Options {
    /// Results in `out`, the model recorded as `source` under the name `name`.
    pub fn new(out: impl Into<PathBuf>, source: &str, name: &str) -> Self {
        let (source, name) = (source.to_owned(), name.to_owned());
        Options {
            out: out.into(),
            restart: false,
            model: ModelInfo { source, name, weights_sha256: None, arm: None, training_seed: None },
            settings: BTreeMap::new(),
            fidelity: FidelityCheck::Run { tolerance: None },
        }
    }
}

/// Progress of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The engine gives no log-probs that could be compared with the scorer's.
    Unchecked,
    /// Log-probs were compared with an independent implementation's.
    Compared(FidelityInfo),
    /// Only one generator is used, because the fidelity check did not cover concurrent requests.
    Sequential,
    /// The server answers with another model than the requested one.
    OtherModel {
        /// The requested name.
        requested: String,
        /// The name in the answers.
        answered: String,
    },
    /// The server refuses these sampler fields: its own defaults apply.
    OwnDefaults(Vec<String>),
    /// A worker was set aside, or is back.
    Standing {
        /// The reason, where it was set aside.
        set_aside: Option<String>,
        /// Time until it is asked again; absent for good, and where it is back.
        pause: Option<Duration>,
    },
    /// Servers of one run give themselves different names.
    Disagree(Disagreement),
    /// Nothing has arrived for a moment.
    Waiting,
    /// Samples by server or device, at the end of a run that several share.
    Shares(Vec<(String, usize)>),
    /// An event of one of several workers.
    Of {
        /// Its name.
        worker: String,
        /// The event.
        event: Box<Event>,
    },
    /// Sampling.
    Sampling(Progress),
    /// Reported ends that are not simply believed, as samples by remark.
    FinishRemarks(BTreeMap<String, usize>),
    /// Sampling is done, but the engine failed on some samples.
    Failed {
        /// Failed samples.
        failed: usize,
        /// All samples.
        total: usize,
    },
    /// Rewards of the samples.
    Reward {
        /// Samples done.
        done: usize,
        /// All samples.
        total: usize,
    },
    /// Teacher-forced scoring of gold answers.
    Gold {
        /// Scored prompts.
        done: usize,
        /// Prompts with a gold answer.
        total: usize,
    },
    /// Teacher-forced scoring of held-out preference pairs.
    HeldOut {
        /// Scored pairs.
        done: usize,
        /// All pairs.
        total: usize,
    },
}

/// Results of a complete evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// `run.json`.
    pub manifest: RunManifest,
    /// `metrics.json`.
    pub metrics: MetricsFile,
}

/// Evaluates a model on a suite: compares the generators with the scorer, samples, scores gold answers and held-out
/// pairs, and writes `run.json`, `samples.jsonl`, `measurements.jsonl` and `metrics.json` to `options.out`.
///
/// `on_event` is called after every sample and every batch of scores; [`ControlFlow::Break`] stops sampling after the
/// requests in flight and returns `None`; the same call resumes.
///
/// # Errors
/// [`EvaluateError`]. Samples that exist stay on disk.
pub fn evaluate(
    suite: &Suite,
    mut engines: Engines,
    options: &Options,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Option<Report>, EvaluateError> {
    let dir = EvaluationDir::new(&options.out);
    let teacher_forced = |source| EvaluateError::TeacherForced { suite: suite.name.clone(), source };
    let pairs = read_held_out(suite.pairs.as_deref()).map_err(teacher_forced)?;
    let mut manifest = manifest(suite, options, &engines)?;
    if options.restart {
        // Nothing of a run in progress is removed. The lock is taken anew for sampling.
        let lock = DirLock::take(dir.path()).map_err(|error| RunError::from(files::Error::from(error)))?;
        let _lock = lock.ok_or_else(|| RunError::Locked { dir: dir.path().to_owned() })?;
        remove(&dir)?;
    }
    // One server that goes on with a fleet's run is its last worker.
    let alone = engines.workers.len() < 2 && before(&dir).workers.is_empty();
    let sampled = match alone {
        true => sample(suite, &dir, &mut manifest, &mut engines, options, on_event)?,
        false => fleet::sample(suite, &dir, &mut manifest, &mut engines, options, on_event)?,
    };
    let samples = match sampled {
        Sampled::All(samples) => samples,
        Sampled::Stopped(_) => {
            files::write_json(&dir.manifest(), "run manifest", &manifest).map_err(RunError::from)?;
            return Ok(None);
        }
    };
    manifest.observed.finish_remarks = remarks(&samples);
    if !manifest.observed.finish_remarks.is_empty() {
        let _ = on_event(Event::FinishRemarks(manifest.observed.finish_remarks.clone()));
    }
    let mut failures = samples.iter().filter(|sample| sample.finish_reason == FinishReason::Error).peekable();
    if let Some(first) = failures.peek() {
        let (first, failed, total) = (first.error.clone().unwrap_or_default(), failures.count(), samples.len());
        if failed == total {
            return Err(EvaluateError::NothingSampled { first });
        }
        let _ = on_event(Event::Failed { failed, total });
    }

    let mut rows: Vec<Measurement> = Vec::new();
    if let Some(scorer) = &mut engines.scorer {
        rows = measure_gold(suite, &mut **scorer, |done, total| {
            let _ = on_event(Event::Gold { done, total });
        })
        .map_err(teacher_forced)?;
        rows.extend(
            measure_pairs(&pairs, &mut **scorer, |done, total| {
                let _ = on_event(Event::HeldOut { done, total });
            })
            .map_err(teacher_forced)?,
        );
    }
    if let Some((info, model)) = &mut engines.reward {
        let measured =
            measure_rewards(suite, &samples, &mut **model, &mut |done, total| on_event(Event::Reward { done, total }));
        let Some(rewards) = measured? else { return Ok(None) };
        rows.extend(rewards);
        manifest.observed.reward_model = Some(info.clone());
    }
    let measured = write_results(&dir, &manifest, &samples, rows)?;
    Ok(Some(Report { manifest, metrics: measured.metrics }))
}

/// Samples on one worker, after its fidelity check.
fn sample(
    suite: &Suite,
    dir: &EvaluationDir,
    manifest: &mut RunManifest,
    engines: &mut Engines,
    options: &Options,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Sampled, EvaluateError> {
    manifest.observed.fidelity = check(suite, options, engines, on_event)?;
    manifest.fidelity_max_abs_nats = manifest.observed.fidelity.as_ref().map(|fidelity| fidelity.max);
    if options.fidelity != FidelityCheck::Skip {
        manifest.observed.cross_check = fidelity::cross_check(suite, engines);
    }
    for compared in [&manifest.observed.fidelity, &manifest.observed.cross_check].into_iter().flatten() {
        let _ = on_event(Event::Compared(compared.clone()));
    }
    let Some(worker) = engines.workers.pop() else { return Err(RunError::NoGenerator.into()) };
    let stop = AtomicBool::new(false);
    let mut watch = Watch::new(worker.server, before(dir).server.unwrap_or_default());
    let sampled = sample_suite(suite, dir, manifest, worker.generators, &stop, |state| {
        watch.tell(on_event);
        if on_event(Event::Sampling(state)).is_break() {
            stop.store(true, Ordering::SeqCst);
        }
    })?;
    manifest.observed.server = watch.info();
    Ok(sampled)
}

/// Observations of an earlier part of the run.
fn before(dir: &EvaluationDir) -> Observed {
    let before = files::read_json::<RunManifest>(&dir.manifest(), "run manifest").ok();
    before.map(|manifest| manifest.observed).unwrap_or_default()
}

/// The fidelity check, if there can be one.
fn check(
    suite: &Suite,
    options: &Options,
    engines: &mut Engines,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Option<FidelityInfo>, EvaluateError> {
    if engines.workers.first().is_none_or(|worker| worker.generators.is_empty()) {
        return Err(RunError::NoGenerator.into());
    }
    let checked = match options.fidelity {
        FidelityCheck::Run { tolerance } if engines.scorer.is_some() => {
            let checked = fidelity::check(suite, engines, tolerance)?;
            if checked.is_none() {
                let _ = on_event(Event::Unchecked);
            }
            checked
        }
        _ => None,
    };
    let concurrent = engines.workers.iter_mut().filter(|worker| worker.generators.len() > 1);
    for worker in concurrent.filter(|_| checked.is_none() && engines.sequential_unless_checked) {
        worker.generators.truncate(1);
        let _ = on_event(Event::Sequential);
    }
    Ok(checked)
}

/// Samples by the remark on their reported end.
pub(crate) fn remarks(samples: &[Sample]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for remark in samples.iter().filter_map(|sample| sample.finish_remark.clone()) {
        *counts.entry(remark).or_default() += 1;
    }
    counts
}

fn remove(dir: &EvaluationDir) -> Result<(), EvaluateError> {
    for path in [dir.metrics(), dir.measurements(), dir.samples(), dir.manifest()] {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(EvaluateError::Restart { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn manifest(suite: &Suite, options: &Options, engines: &Engines) -> Result<RunManifest, EvaluateError> {
    let mut versions = BTreeMap::from([("smpo".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    let workers = &engines.workers;
    if let Some(info) = workers.first().and_then(|worker| worker.generators.first()).map(|one| one.engine()) {
        versions.insert("engine".to_owned(), format!("{} {}", info.name, info.version).trim_end().to_owned());
        if workers.len() == 1 {
            versions.insert("device".to_owned(), info.device);
        }
        versions.extend(info.dtype.map(|dtype| ("dtype".to_owned(), dtype)));
    }
    versions.extend(options.settings.clone());
    Ok(RunManifest {
        schema: SCHEMA_VERSION,
        kind: RunManifest::SAMPLED.into(),
        model: options.model.clone(),
        suite: suite.info()?,
        sampler: Some(suite.sampler),
        cap: Some(suite.cap),
        samples_per_prompt: suite.samples_per_prompt,
        terminators: engines.terminators.clone(),
        template_sha256: engines.template_sha256.clone(),
        seed: suite.seed,
        versions,
        fidelity_max_abs_nats: None,
        observed: Observed::default(),
    })
}
