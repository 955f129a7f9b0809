//! `samples.jsonl` while it grows: one write per sample.

use smpo_files::AppendFile;
use smpo_results::{EvaluationDir, Sample, files};

use super::RunError;

/// `samples.jsonl`, open for appending.
pub(super) struct Journal(AppendFile);

impl Journal {
    pub(super) fn open(dir: &EvaluationDir) -> Result<Self, RunError> {
        Ok(Journal(AppendFile::open(&dir.samples()).map_err(files::Error::from)?))
    }

    /// A crash tears at most the last line.
    pub(super) fn append(&mut self, sample: &Sample) -> Result<(), RunError> {
        let json = |source: serde_json::Error| RunError::Io {
            path: self.0.path().to_owned(),
            action: "append to",
            source: source.into(),
        };
        let mut line = serde_json::to_vec(sample).map_err(json)?;
        line.push(b'\n');
        Ok(self.0.append(&line).map_err(files::Error::from)?)
    }
}
