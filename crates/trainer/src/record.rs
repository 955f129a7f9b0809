//! `metrics.jsonl`: one JSON object an optimizer step, and one of step 0 for what was measured before training.

use std::borrow::Cow;
use std::path::Path;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use smpo_files::AppendFile;

use crate::error::{TrainError, io};

/// A named value.
pub type Figure = (Cow<'static, str>, f64);

/// Metrics of one optimizer step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// Optimizer step, from 1; 0 is before training.
    pub step: u64,
    /// Epochs seen, fractional.
    pub epoch: f64,
    /// Metrics of the loss, of evaluation (`eval_…`) and of the probe (`probe/…`), under the names of the file; log-probs in
    /// nats. A value that is not finite is written as null.
    pub metrics: Vec<Figure>,
    /// The update; absent at step 0.
    pub update: Option<Update>,
}

/// Update of an optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Learning rate of this step.
    pub lr: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Prompt and completion tokens per second, the prompt counted once per side.
    pub tokens_per_s: f64,
}

impl StepRecord {
    /// A metric by its name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.figures().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Every metric except step and epoch, in the order of the file.
    pub fn figures(&self) -> Vec<Figure> {
        let update = self
            .update
            .map(|update| [("lr", update.lr), ("grad_norm", update.grad_norm), ("tokens_per_s", update.tokens_per_s)]);
        let update = update.into_iter().flatten().map(|(name, value)| (Cow::Borrowed(name), value));
        self.metrics.iter().cloned().chain(update).collect()
    }
}

impl Serialize for StepRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("step", &self.step)?;
        map.serialize_entry("epoch", &self.epoch)?;
        for (name, value) in self.figures() {
            map.serialize_entry(&name, &value)?;
        }
        map.end()
    }
}

/// The open file; [`MetricsLog::append`] returns once a line is written.
pub(crate) struct MetricsLog(AppendFile);

impl MetricsLog {
    /// Opens the log of a run that resumes from a checkpoint: lines of later steps, which an interrupted run left, are
    /// dropped, since those steps will be taken again. Without a checkpoint the log is emptied.
    pub(crate) fn open(path: &Path, resumed: Option<u64>) -> Result<Self, TrainError> {
        let kept = match (std::fs::read_to_string(path), resumed) {
            (Ok(text), Some(step)) => {
                text.lines().filter(|line| is_at_most(line, step)).fold(String::new(), |kept, line| kept + line + "\n")
            }
            (Ok(_), None) => String::new(),
            (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            (Err(source), _) => return Err(TrainError::Io { path: path.to_owned(), action: "read", source }),
        };
        smpo_files::write_whole(path, kept.as_bytes())?;
        Ok(MetricsLog(AppendFile::open(path)?))
    }

    pub(crate) fn append(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        let mut line = serde_json::to_vec(record).map_err(std::io::Error::from).map_err(io(self.0.path(), "write"))?;
        line.push(b'\n');
        Ok(self.0.append(&line)?)
    }

    /// Syncs the lines, before a checkpoint says that their steps are taken.
    pub(crate) fn sync(&self) -> Result<(), TrainError> {
        Ok(self.0.sync()?)
    }
}

fn is_at_most(line: &str, step: u64) -> bool {
    #[derive(serde::Deserialize)]
    struct Step {
        step: u64,
    }
    serde_json::from_str::<Step>(line).is_ok_and(|found| found.step <= step)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    fn record(step: u64) -> StepRecord {
        let metrics = vec![("loss".into(), 0.5), ("eos_logp/rejected".into(), -3.0)];
        let update = Some(Update { lr: 1e-4, grad_norm: f64::NAN, tokens_per_s: 10.0 });
        StepRecord { step, epoch: 0.1, metrics, update }
    }

    #[test]
    fn reopening_drops_later_and_broken_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, None).unwrap();
        for step in 0..=3 {
            log.append(&record(step)).unwrap();
        }
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\": 2, \"lo").unwrap();
        MetricsLog::open(&path, Some(2)).unwrap().append(&record(3)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let steps: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(steps.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(steps[0]["eos_logp/rejected"], -3.0);
        assert!(steps[0]["grad_norm"].is_null());
        MetricsLog::open(&path, None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
