//! One evaluation directory, read and checked.

use std::path::{Path, PathBuf};

use smpo_files::is_file;
use smpo_metrics::Metric;
use smpo_results::{Direction, EvaluationDir, Measurements, MetricsFile, RunManifest, Unit, read_json};

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
    pub measurements: Measurements,
}

/// Values that a metric may have.
#[derive(Clone, Copy)]
enum Expected {
    Number,
    Share,
}

impl Expected {
    fn holds(self, value: f64) -> bool {
        match self {
            Expected::Number => value.is_finite(),
            Expected::Share => (0.0..=1.0).contains(&value),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Expected::Number => "a finite number",
            Expected::Share => "a share from 0 to 1",
        }
    }
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
            measurements: Measurements::read(&paths.measurements())?,
        };
        run.check(&paths.measurements())?;
        Ok(run)
    }

    /// The directory without links, by which two names of one are equal.
    pub(crate) fn place(&self) -> PathBuf {
        smpo_files::resolved(&self.dir)
    }

    /// Refuses a prompt that is there twice and a value that is no number, or no share where the metric is one; the first of
    /// them.
    fn check(&self, path: &Path) -> Result<(), GateError> {
        let rows = &self.measurements;
        let sorted = rows.sorted();
        let repeated = sorted.windows(2).filter(|pair| rows.key(pair[0]) == rows.key(pair[1])).map(|pair| pair[1]);
        let repeated = repeated.min();
        let impossible = |(metric, column): (&str, &smpo_results::Column)| {
            let unit = self.declared(metric).map(|(unit, _)| unit);
            let expected = match unit.or_else(|| smpo_metrics::find(metric).map(|info| info.unit)) {
                Some(Unit::Share) => Expected::Share,
                _ => Expected::Number,
            };
            let found =
                column.rows().find_map(|(row, values)| Some((row, values.iter().find(|v| !expected.holds(**v))?)));
            found.map(|(row, &got)| (row, metric.to_owned(), expected, got))
        };
        let impossible = rows.columns().filter_map(impossible).min_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        match (repeated, impossible) {
            (Some(row), other) if other.as_ref().is_none_or(|(number, ..)| row <= *number) => {
                let (slice, prompt_id) = rows.key(row);
                let (path, prompt_id, slice) = (path.to_owned(), prompt_id.to_owned(), slice.to_owned());
                Err(GateError::DuplicatePrompt { path, prompt_id, slice })
            }
            (_, Some((row, metric, expected, got))) => {
                let prompt_id = rows.key(row).1.to_owned();
                Err(GateError::Impossible { path: path.to_owned(), prompt_id, metric, expected: expected.words(), got })
            }
            _ => Ok(()),
        }
    }

    /// Display name of the model.
    pub fn name(&self) -> &str {
        &self.manifest.model.name
    }

    /// Unit and direction of a metric as this run declares them.
    pub fn declared(&self, metric: &str) -> Option<(Unit, Direction)> {
        self.metrics.metrics.iter().find(|m| m.metric == metric).map(|m| (m.unit, m.better))
    }

    /// Rows that carry the metric, with its values.
    pub fn rows(&self, metric: &str) -> impl Iterator<Item = (usize, &[f64])> {
        self.measurements.column(metric).into_iter().flat_map(|column| column.rows())
    }

    /// True if any prompt has a value of this metric.
    pub fn has(&self, metric: &str) -> bool {
        self.rows(metric).next().is_some()
    }

    /// By row: true where some metric of completions for which `counts` has a value.
    pub(crate) fn answered(&self, counts: impl Fn(&Metric) -> bool) -> Vec<bool> {
        let mut answered = vec![false; self.measurements.len()];
        for metric in smpo_metrics::sample_metrics().filter(|metric| counts(metric)) {
            self.rows(metric.info.id).for_each(|(row, _)| answered[row] = true);
        }
        answered
    }

    /// The slices, in order of first appearance.
    pub fn slices(&self) -> Vec<&str> {
        self.measurements.slices().collect()
    }
}
