//! Runs made in memory, for the tests of decisions.
#![allow(dead_code, missing_docs, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use smpo_gate::Run;
use smpo_results::{
    Measurement, MetricEstimate, MetricsFile, ModelInfo, Observed, RunManifest, SCHEMA_VERSION, Sampler, SuiteInfo,
    TerminatorSet, write_json, write_jsonl,
};

pub fn manifest(name: &str) -> RunManifest {
    RunManifest {
        schema: SCHEMA_VERSION,
        kind: "eval".into(),
        model: ModelInfo {
            source: format!("models/{name}"),
            name: name.into(),
            weights_sha256: None,
            arm: None,
            training_seed: None,
        },
        suite: SuiteInfo { name: "ood".into(), sha256: "ab".into(), prompts: 240, pairs_sha256: None },
        sampler: Some(Sampler { temperature: 0.8, top_k: None, top_p: None, min_p: None }),
        cap: Some(240),
        samples_per_prompt: 1,
        terminators: Some(TerminatorSet { ids: vec![2], tokens: vec!["<|im_end|>".into()] }),
        template_sha256: Some("cd".into()),
        seed: 1,
        versions: BTreeMap::new(),
        fidelity_max_abs_nats: None,
        observed: Observed::default(),
    }
}

/// A run without measurements.
pub fn run(name: &str) -> Run {
    Run {
        dir: PathBuf::from(name),
        manifest: manifest(name),
        metrics: MetricsFile { schema: SCHEMA_VERSION, metrics: Vec::new() },
        measurements: Default::default(),
    }
}

pub trait Build: Sized {
    fn with(self, metric: &str, values: impl IntoIterator<Item = f64>) -> Self;
    fn with_samples(self, metric: &str, values: impl IntoIterator<Item = Vec<f64>>) -> Self;
    fn declare(self, metric: &str) -> Self;
    fn seed(self, arm: &str, seed: u64) -> Self;
    fn write(&self, root: &Path) -> PathBuf;
}

impl Build for Run {
    /// Gives prompt 0, 1, 2… one value each.
    fn with(self, metric: &str, values: impl IntoIterator<Item = f64>) -> Run {
        self.with_samples(metric, values.into_iter().map(|v| vec![v]))
    }

    /// Gives prompt 0, 1, 2… several values each. Odd prompts are of slice `odd`, even ones of `even`.
    fn with_samples(mut self, metric: &str, values: impl IntoIterator<Item = Vec<f64>>) -> Run {
        let mut rows: Vec<Measurement> = self.measurements.rows().collect();
        for (index, values) in values.into_iter().enumerate() {
            while rows.len() <= index {
                let number = rows.len();
                rows.push(Measurement {
                    schema: SCHEMA_VERSION,
                    prompt_id: format!("p{number:05}"),
                    slice: if number % 2 == 1 { "odd".into() } else { "even".into() },
                    values: BTreeMap::new(),
                });
            }
            if !values.is_empty() {
                rows[index].values.insert(metric.into(), values);
            }
        }
        self.measurements = rows.into_iter().collect();
        if self.has(metric) { self.declare(metric) } else { self }
    }

    /// Lists the metric in `metrics.json`.
    fn declare(mut self, metric: &str) -> Run {
        if let Some(known) = smpo_metrics::find(metric) {
            self.metrics.metrics.push(MetricEstimate {
                metric: metric.into(),
                slice: "all".into(),
                value: 0.5,
                ci_low: 0.4,
                ci_high: 0.6,
                n: 2,
                unit: known.unit,
                better: known.better,
                primary: known.primary,
            });
        }
        self
    }

    fn seed(mut self, arm: &str, seed: u64) -> Run {
        self.manifest.model.arm = Some(arm.into());
        self.manifest.model.training_seed = Some(seed);
        self.dir = PathBuf::from(format!("{arm}/{seed}"));
        self
    }

    fn write(&self, root: &Path) -> PathBuf {
        let dir = root.join(&self.dir);
        write_json(&dir.join("run.json"), "run manifest", &self.manifest).unwrap();
        write_jsonl(&dir.join("measurements.jsonl"), "measurement", &self.measurements.rows().collect::<Vec<_>>())
            .unwrap();
        write_json(&dir.join("metrics.json"), "metrics file", &self.metrics).unwrap();
        dir
    }
}

/// `ones` ones, then zeros, `n` in all.
pub fn ones_first(ones: usize, n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| f64::from(u8::from(i < ones)))
}
