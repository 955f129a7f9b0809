//! One model through one suite: check, sample, measure, write.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use smpo_devices::Choice;
use smpo_eval::runner::write_results;
use smpo_eval::teacher_forced::{TeacherForcedError, measure_gold, measure_pairs, read_held_out};
use smpo_eval::{Measured, RunError, Sampled, Suite, sample_suite};
use smpo_results::{EvaluationDir, FinishReason, Measurement, ModelInfo, RunManifest, SCHEMA_VERSION};

use super::engines::{Engines, LocalEngine};
use super::fidelity;
use crate::commands::score::blame as blame_input;
use crate::exit::{Blame, Failure, io_is_usage};
use crate::interrupt;
use crate::progress::Progress;

/// What to evaluate, and where to put it.
pub struct Evaluation {
    /// The model and what it is called.
    pub model: ModelInfo,
    /// What computes it, where it is on this disk.
    pub engine: LocalEngine,
    /// The model below a PEFT adapter, or the directory of a GGUF file's tokenizer.
    pub base: Option<PathBuf>,
    /// The same model as a directory: for the fidelity check and the teacher-forced measures.
    pub weights: Option<PathBuf>,
    /// Evaluation directory.
    pub out: PathBuf,
    /// Forget what is there.
    pub restart: bool,
    /// mistral.rs engines side by side.
    #[cfg_attr(not(feature = "mistralrs"), expect(dead_code, reason = "no other engine has instances"))]
    pub instances: Option<usize>,
    /// Sequences in a batch of the native engine.
    pub batch: Option<usize>,
    /// Where mistral.rs computes; the native engine samples on the processor.
    #[cfg_attr(not(feature = "mistralrs"), expect(dead_code, reason = "no other engine leaves the processor"))]
    pub device: Choice,
    /// Threads of each engine.
    pub threads: Option<usize>,
    /// Compare the engine with this program's own forward pass first.
    pub fidelity_check: bool,
    /// Largest disagreement that passes, in nats; the engine's default when absent.
    pub fidelity_tolerance: Option<f64>,
    /// How a server is asked, for the manifest.
    pub asked: BTreeMap<String, String>,
}

/// How an evaluation ended.
pub enum Evaluated {
    /// Everything is on disk.
    Done(Measured),
    /// Ctrl-C; the same call goes on.
    Stopped,
}

/// Evaluates a model on this disk, with progress under the model's name.
pub fn evaluate(suite: &Suite, evaluation: &Evaluation, progress: &Progress) -> Result<Evaluated, Failure> {
    evaluate_with(suite, evaluation, Engines::local(evaluation)?, progress)
}

/// As [`evaluate`], with engines at hand.
pub fn evaluate_with(
    suite: &Suite,
    evaluation: &Evaluation,
    mut engines: Engines,
    progress: &Progress,
) -> Result<Evaluated, Failure> {
    let dir = EvaluationDir::new(&evaluation.out);
    if evaluation.restart {
        forget(&dir).execution()?;
    }
    let name = &evaluation.model.name;
    let pairs = read_held_out(suite.pairs.as_deref()).map_err(|error| blame_measures(error, suite))?;
    let mut manifest = manifest(suite, evaluation, &engines)?;
    manifest.fidelity_max_abs_nats = checked(suite, evaluation, &mut engines, progress)?;

    let stage = progress.stage(name, (suite.prompts.len() as u64) * u64::from(suite.samples_per_prompt));
    let mut last = String::new();
    let sampled = sample_suite(suite, &dir, &manifest, engines.generators, interrupt::flag(), |state| {
        last = format!("{:.0} tokens/s", state.tokens_per_second);
        if state.failed > 0 {
            last.push_str(&format!(", {} failed", state.failed));
        }
        let eta = state.eta_secs.map(|seconds| format!(", {} left", duration(seconds))).unwrap_or_default();
        stage.update(state.done as u64, &format!("{last}{eta}"));
    })
    .map_err(blame_run)?;
    let samples = match sampled {
        Sampled::All(samples) => samples,
        Sampled::Stopped(_) => return Ok(Evaluated::Stopped),
    };
    stage.finish(&last);
    let failed = samples.iter().filter(|sample| sample.finish_reason == FinishReason::Error).count();
    if failed == samples.len() {
        let why = samples.iter().find_map(|sample| sample.error.clone()).unwrap_or_default();
        return Err(Failure::Execution(anyhow!(
            "{name}: the engine failed on every sample, so nothing is measured; the same command tries again: {why}"
        )));
    }
    if failed > 0 {
        progress.say(&format!(
            "{name}: the engine failed on {failed} of {} samples; the same command tries them again",
            samples.len()
        ));
    }

    let mut rows: Vec<Measurement> = Vec::new();
    if let Ok(mut forward) = engines.forward {
        let stage = progress.stage(&format!("{name}: gold answers"), suite.prompts.len() as u64);
        rows = measure_gold(suite, &mut forward, |done, _| stage.update(done as u64, ""))
            .map_err(|error| blame_measures(error, suite))?;
        stage.finish("");
        if !pairs.is_empty() {
            let stage = progress.stage(&format!("{name}: held-out pairs"), pairs.len() as u64);
            rows.extend(
                measure_pairs(&pairs, &mut forward, |done, _| stage.update(done as u64, ""))
                    .map_err(|error| blame_measures(error, suite))?,
            );
            stage.finish("");
        }
    }
    Ok(Evaluated::Done(write_results(&dir, &manifest, &samples, rows).execution()?))
}

/// The fidelity check where there can be one. Where there cannot, requests go one by one unless asked otherwise.
fn checked(
    suite: &Suite,
    evaluation: &Evaluation,
    engines: &mut Engines,
    progress: &Progress,
) -> Result<Option<f64>, Failure> {
    let name = &evaluation.model.name;
    let say = |why: &str| progress.say(&format!("{name}: {why}"));
    let nats = match &engines.forward {
        Err(error) => {
            say(&format!(
                "no teacher-forced measures and no fidelity check, for want of this program's own forward pass: {error:#}"
            ));
            None
        }
        Ok(_) if !evaluation.fidelity_check => None,
        Ok(forward) => {
            let tolerance = evaluation.fidelity_tolerance;
            let nats = fidelity::check(&mut engines.generators, forward, suite, tolerance, name)?;
            if nats.is_none() {
                say("the engine is not checked: it gives no log-probs that could be matched with tokens");
            }
            nats
        }
    };
    if nats.is_none() && engines.one_unless_checked && engines.generators.len() > 1 {
        engines.generators.truncate(1);
        say("one request at a time, since batching cannot be checked; --concurrency N allows more");
    }
    Ok(nats)
}

/// `40 s`, `12 min`, `3 h 05 min`.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 | 1 => format!("{seconds:.0} s"),
        2..120 => format!("{minutes} min"),
        _ => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

fn forget(dir: &EvaluationDir) -> anyhow::Result<()> {
    for path in [dir.metrics(), dir.measurements(), dir.samples(), dir.manifest()] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{}: cannot remove", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn manifest(suite: &Suite, evaluation: &Evaluation, engines: &Engines) -> Result<RunManifest, Failure> {
    let info = engines.info.clone();
    let mut versions = BTreeMap::from([
        ("smpo".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("engine".to_owned(), format!("{} {}", info.name, info.version).trim_end().to_owned()),
        ("device".to_owned(), info.device),
    ]);
    versions.extend(info.dtype.map(|dtype| ("dtype".to_owned(), dtype)));
    versions.extend(evaluation.asked.clone());
    Ok(RunManifest {
        schema: SCHEMA_VERSION,
        kind: "eval".into(),
        model: ModelInfo { weights_sha256: engines.weights_sha256.clone(), ..evaluation.model.clone() },
        suite: suite.info().map_err(blame_input)?,
        sampler: Some(suite.sampler),
        cap: Some(suite.cap),
        samples_per_prompt: suite.samples_per_prompt,
        terminators: engines.terminators.clone(),
        template_sha256: engines.template_sha256.clone(),
        seed: suite.seed,
        versions,
        fidelity_max_abs_nats: None,
    })
}

fn blame_run(error: RunError) -> Failure {
    match error {
        RunError::OtherRun { .. } | RunError::ForeignSample { .. } | RunError::Locked { .. } => {
            Failure::Usage(anyhow::Error::from(error).context("--out (--restart clears it)"))
        }
        error => Failure::Execution(error.into()),
    }
}

fn blame_measures(error: TeacherForcedError, suite: &Suite) -> Failure {
    let usage = matches!(&error, TeacherForcedError::Pairs(_)) || io_is_usage(&error);
    let error = anyhow::Error::from(error).context(format!("suite {}", suite.name));
    if usage { Failure::Usage(error) } else { Failure::Execution(error) }
}
