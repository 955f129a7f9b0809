//! Sampling and measuring every model, at temperature 0.8 and greedily.

use std::path::PathBuf;

use smpo_eval::{InputError, Options, Suite, weights};
use smpo_results::{EvaluationDir, MetricsFile, ModelInfo, RunManifest, read_json};

use crate::arms::{Arm, Model};
use crate::inputs::Inputs;
use crate::{DemoError, Stages};

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

/// Every model's evaluations.
pub struct Evaluations {
    /// The suite that was sampled.
    pub suite: Suite,
    /// The base model first.
    pub rows: Vec<Row>,
}

impl Evaluations {
    /// The models of an arm, one per seed.
    pub fn of(&self, arm: Arm) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.model.arm == arm)
    }

    /// A metric over the whole suite (or the slice it is measured on), one value per seed.
    pub fn values(&self, arm: Arm, decoding: Decoding, metric: &str) -> Vec<f64> {
        self.of(arm).filter_map(|row| row.metric(decoding, metric)).collect()
    }
}

/// Decoding of an evaluation.
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

/// Evaluates every model; what is finished is kept. `None` when stopped.
pub fn evaluate<S: Stages>(
    inputs: &Inputs,
    models: Vec<Model>,
    threads: usize,
    stages: &S,
) -> Result<Option<Evaluations>, S::Error> {
    let suite = Suite::read(&inputs.path("evals/demo.toml"))?;
    let greedy_suite = Suite::read(&inputs.path("evals/demo-greedy.toml"))?;
    let mut rows = Vec::new();
    for model in models {
        let dir = inputs.dir("eval").join(model.name());
        let one = |suite: &Suite, decoding: &str| -> Result<Option<DecodedRun>, S::Error> {
            let dir = dir.join(decoding);
            let mut options = Options::new(&dir, &model.dir.display().to_string(), &model.name());
            options.model.arm = Some(model.arm.id().to_owned());
            options.model.training_seed = model.seed;
            let finished = finished(&options.model, &dir, suite)?;
            let metrics = match finished {
                Some(metrics) => Some(metrics),
                None => stages.evaluate(suite, options, threads)?,
            };
            Ok(metrics.map(|metrics| DecodedRun { dir, metrics }))
        };
        let Some(sampled) = one(&suite, "sampled")? else { return Ok(None) };
        let Some(greedy) = one(&greedy_suite, "greedy")? else { return Ok(None) };
        rows.push(Row { model, sampled, greedy });
    }
    Ok(Some(Evaluations { suite, rows }))
}

/// The estimates of an evaluation that is complete and is this one: same weights, same suite.
fn finished(model: &ModelInfo, dir: &std::path::Path, suite: &Suite) -> Result<Option<MetricsFile>, DemoError> {
    let dir = EvaluationDir::new(dir);
    if !dir.metrics().exists() {
        return Ok(None);
    }
    let found: RunManifest = read_json(&dir.manifest(), "run manifest")?;
    let weights = weights::sha256(model.source.as_ref())?;
    let suite = suite.info().map_err(|error: InputError| DemoError::Suite(error))?;
    let same = found.model.weights_sha256 == Some(weights) && found.suite == suite;
    if same { Ok(Some(read_json(&dir.metrics(), "metrics file")?)) } else { Ok(None) }
}
