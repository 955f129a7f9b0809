//! One evaluation directory, read and checked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use smpo_files::is_file;
use smpo_results::{Direction, EvaluationDir, Measurement, MetricsFile, RunManifest, Unit, read_json, read_jsonl};

use crate::error::GateError;

/// An evaluation directory in memory; completions stay on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Path of the directory.
    pub dir: PathBuf,
    /// `run.json`
    pub manifest: RunManifest,
    /// `metrics.json`
    pub metrics: MetricsFile,
    /// `measurements.jsonl`
    pub measurements: Vec<Measurement>,
}

impl Run {
    /// Reads a finished evaluation.
    pub fn load(dir: impl AsRef<Path>) -> Result<Run, GateError> {
        let paths = EvaluationDir::new(dir.as_ref());
        for (path, missing) in [
            (paths.manifest(), "run.json"),
            (paths.measurements(), "measurements.jsonl"),
            (paths.metrics(), "metrics.json"),
        ] {
            if !is_file(&path).map_err(smpo_results::Error::from)? {
                return Err(GateError::Unfinished { dir: dir.as_ref().to_owned(), missing });
            }
        }
        let run = Run {
            dir: dir.as_ref().to_owned(),
            manifest: read_json(&paths.manifest(), "run manifest")?,
            metrics: read_json(&paths.metrics(), "metrics file")?,
            measurements: read_jsonl(&paths.measurements(), "measurement")?,
        };
        run.check(&paths.measurements())?;
        Ok(run)
    }

    fn check(&self, path: &Path) -> Result<(), GateError> {
        let mut seen = BTreeSet::new();
        for row in &self.measurements {
            if !seen.insert((&row.slice, &row.prompt_id)) {
                return Err(GateError::DuplicatePrompt {
                    path: path.to_owned(),
                    prompt_id: row.prompt_id.clone(),
                    slice: row.slice.clone(),
                });
            }
            for (metric, values) in &row.values {
                if let Some(&got) = values.iter().find(|value| !value.is_finite()) {
                    return Err(GateError::NotFinite {
                        path: path.to_owned(),
                        prompt_id: row.prompt_id.clone(),
                        metric: metric.clone(),
                        got,
                    });
                }
            }
        }
        Ok(())
    }

    /// Display name of the model.
    pub fn name(&self) -> &str {
        &self.manifest.model.name
    }

    /// Unit and direction of a metric as this run declares them.
    pub fn declared(&self, metric: &str) -> Option<(Unit, Direction)> {
        self.metrics.metrics.iter().find(|m| m.metric == metric).map(|m| (m.unit, m.better))
    }

    /// Rows of a slice that carry the metric; `all` is every row that does.
    pub fn rows<'a>(&'a self, metric: &'a str, slice: &'a str) -> impl Iterator<Item = (&'a Measurement, &'a [f64])> {
        self.measurements
            .iter()
            .filter(move |row| slice == "all" || row.slice == slice)
            .filter_map(move |row| row.values.get(metric).filter(|v| !v.is_empty()).map(|v| (row, v.as_slice())))
    }

    /// True if any prompt has a value of this metric.
    pub fn has(&self, metric: &str) -> bool {
        self.rows(metric, "all").next().is_some()
    }

    /// The slices, in order of first appearance.
    pub fn slices(&self) -> Vec<&str> {
        let mut slices = Vec::new();
        for row in &self.measurements {
            if !slices.contains(&row.slice.as_str()) {
                slices.push(row.slice.as_str());
            }
        }
        slices
    }
}
