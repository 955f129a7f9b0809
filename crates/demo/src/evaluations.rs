//! The evaluations of every model, at temperature 0.8 and greedily.

use std::path::{Path, PathBuf};

use smpo_eval::Suite;
use smpo_results::{EvaluationDir, MetricsFile, read_json};

use crate::arms::Arm;
use crate::inputs::Inputs;
use crate::{DemoError, DemoOptions};

/// One model.
pub struct Row {
    /// Its arm.
    pub arm: Arm,
    /// Its evaluation at temperature 0.8.
    pub dir: PathBuf,
    sampled: MetricsFile,
    greedy: MetricsFile,
}

/// Every model's evaluations.
pub struct Evaluations {
    /// The suite that was sampled.
    pub suite: Suite,
    /// The base model first.
    pub rows: Vec<Row>,
}

/// Decoding of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoding {
    /// At temperature 0.8.
    Sampled,
    /// Greedily.
    Greedy,
}

impl Evaluations {
    /// Reads those of a finished recipe.
    pub fn read(inputs: &Inputs, options: &DemoOptions) -> Result<Self, DemoError> {
        let suite = Suite::read(&inputs.path("evals/demo.toml"))?;
        let row = |arm: Arm, run: String| -> Result<Row, DemoError> {
            let dir = |suite: &str| options.out.join("eval").join(suite).join(&run);
            let metrics = |dir: &Path| read_json(&EvaluationDir::new(dir).metrics(), "metrics file");
            let (sampled, greedy) = (metrics(&dir("demo"))?, metrics(&dir("demo-greedy"))?);
            Ok(Row { arm, dir: dir("demo"), sampled, greedy })
        };
        let mut rows = vec![row(Arm::Start, Arm::Start.id().to_owned())?];
        for seed in &options.seeds {
            for arm in [Arm::Control, Arm::Regular, Arm::Modified] {
                rows.push(row(arm, format!("{}-{seed}", arm.id()))?);
            }
        }
        Ok(Evaluations { suite, rows })
    }

    /// The models of an arm, one per seed.
    pub fn of(&self, arm: Arm) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.arm == arm)
    }

    /// A metric over the whole suite (or the slice it is measured on), one value per seed.
    pub fn values(&self, arm: Arm, decoding: Decoding, metric: &str) -> Vec<f64> {
        self.of(arm).filter_map(|row| row.metric(decoding, metric)).collect()
    }
}

impl Row {
    fn metric(&self, decoding: Decoding, metric: &str) -> Option<f64> {
        let metrics = match decoding {
            Decoding::Sampled => &self.sampled,
            Decoding::Greedy => &self.greedy,
        };
        metrics.get(metric, smpo_eval::ALL).map(|estimate| estimate.value)
    }
}
