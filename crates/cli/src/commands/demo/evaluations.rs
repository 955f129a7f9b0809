//! Sampling and measuring every model, at temperature 0.8 and greedily.

use std::collections::BTreeMap;
use std::path::PathBuf;

use smpo_devices::Choice;
use smpo_eval::Suite;
use smpo_results::{EvaluationDir, MetricsFile, ModelInfo, RunManifest, read_json};

use super::arms::{Arm, Model};
use super::inputs::Inputs;
use crate::commands::eval::{Evaluated, Evaluation, LocalEngine, evaluate as evaluate_model, weights};
use crate::exit::{Blame, Failure};
use crate::progress::Progress;

/// One model under one decoding.
pub struct DecodedRun {
    /// Its directory.
    pub dir: PathBuf,
    /// Its estimates.
    pub metrics: MetricsFile,
}

/// One model under both.
pub struct Row {
    /// The model.
    pub model: Model,
    /// At temperature 0.8.
    pub sampled: DecodedRun,
    /// Greedily.
    pub greedy: DecodedRun,
}

/// Every model's evaluations, the base model first.
pub struct Evaluations(pub Vec<Row>);

impl Evaluations {
    /// The models of an arm, one per seed.
    pub fn of(&self, arm: Arm) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(move |row| row.model.arm == arm)
    }

    /// A metric over the whole suite (or the slice it is measured on), one value per seed.
    pub fn values(&self, arm: Arm, decoding: Decoding, metric: &str) -> Vec<f64> {
        self.of(arm).filter_map(|row| row.metric(decoding, metric)).collect()
    }
}

/// How tokens were drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoding {
    /// At temperature 0.8.
    Sampled,
    /// Greedily.
    Greedy,
}

impl Row {
    fn metric(&self, decoding: Decoding, metric: &str) -> Option<f64> {
        let metrics = match decoding {
            Decoding::Sampled => &self.sampled.metrics,
            Decoding::Greedy => &self.greedy.metrics,
        };
        metrics.get(metric, smpo_eval::ALL).map(|estimate| estimate.value)
    }
}

/// Evaluates every model; what is finished is kept. `None` when stopped by Ctrl-C.
pub fn evaluate(
    inputs: &Inputs,
    models: Vec<Model>,
    threads: usize,
    progress: &Progress,
) -> Result<Option<Evaluations>, Failure> {
    let sampled_suite = Suite::read(&inputs.path("evals/demo.toml")).usage()?;
    let greedy_suite = Suite::read(&inputs.path("evals/demo-greedy.toml")).usage()?;
    let mut rows = Vec::new();
    for model in models {
        let dir = inputs.dir("eval").join(model.name());
        let one = |suite: &Suite, decoding: &str| -> Result<Option<DecodedRun>, Failure> {
            let out = dir.join(decoding);
            let evaluation = Evaluation {
                device: Choice::Cpu,
                model: ModelInfo {
                    source: model.dir.display().to_string(),
                    name: model.name(),
                    weights_sha256: None,
                    arm: Some(model.arm.id().to_owned()),
                    training_seed: model.seed,
                },
                engine: LocalEngine::Mistralrs,
                base: None,
                weights: None,
                out: out.clone(),
                restart: false,
                instances: Some(threads),
                batch: None,
                threads: Some(1),
                fidelity_check: true,
                fidelity_tolerance: None,
                asked: BTreeMap::new(),
            };
            if let Some(metrics) = finished(&evaluation, suite)? {
                return Ok(Some(DecodedRun { dir: out, metrics }));
            }
            Ok(match evaluate_model(suite, &evaluation, progress)? {
                Evaluated::Done(measured) => Some(DecodedRun { dir: out, metrics: measured.metrics }),
                Evaluated::Stopped => None,
            })
        };
        let Some(sampled) = one(&sampled_suite, "sampled")? else { return Ok(None) };
        let Some(greedy) = one(&greedy_suite, "greedy")? else { return Ok(None) };
        rows.push(Row { model, sampled, greedy });
    }
    Ok(Some(Evaluations(rows)))
}

/// The estimates of an evaluation that is complete and is this one: same weights, same suite.
fn finished(evaluation: &Evaluation, suite: &Suite) -> Result<Option<MetricsFile>, Failure> {
    let dir = EvaluationDir::new(&evaluation.out);
    if !dir.metrics().exists() {
        return Ok(None);
    }
    let found: RunManifest = read_json(&dir.manifest(), "run manifest").usage()?;
    let weights = weights::sha256(evaluation.model.source.as_ref()).execution()?;
    let same = found.model.weights_sha256 == Some(weights) && found.suite == suite.info().usage()?;
    if same { Ok(Some(read_json(&dir.metrics(), "metrics file").usage()?)) } else { Ok(None) }
}
