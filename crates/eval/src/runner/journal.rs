//! `samples.jsonl` while it grows: one write per sample.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use smpo_results::{EvaluationDir, Sample};

use super::RunError;

/// `samples.jsonl`, open for appending.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    pub(super) fn open(dir: &EvaluationDir) -> Result<Self, RunError> {
        let path = dir.samples();
        match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Ok(Journal { path, file }),
            Err(source) => Err(RunError::Io { path, action: "open", source }),
        }
    }

    /// One write a line: a crash tears at most the last.
    pub(super) fn append(&mut self, sample: &Sample) -> Result<(), RunError> {
        let io = |source| RunError::Io { path: self.path.clone(), action: "append to", source };
        let mut line = serde_json::to_vec(sample).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io)
    }
}
