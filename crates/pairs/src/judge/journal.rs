//! Judgements on disk, one line each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smpo_files::{append, cut_torn_line};
use smpo_results::files;

use crate::PairsError;

/// One judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// SHA-256 of the judge's model and the question.
    pub question: String,
    /// Grade, or 1, ½, 0 for the first of two.
    pub verdict: f64,
    /// The reply it was read from.
    pub reply: String,
}

/// The file and what it holds.
pub(super) struct Journal {
    path: PathBuf,
    verdicts: HashMap<String, f64>,
}

impl Journal {
    /// Reads the judgements of earlier calls; half a line that a crash left at the end is removed.
    pub fn open(path: &Path) -> Result<Journal, PairsError> {
        let mut verdicts = HashMap::new();
        if path.exists() {
            cut_torn_line(path).map_err(files::Error::from)?;
            let lines = files::read_jsonl::<Line>(path, "judgement")?;
            verdicts.extend(lines.into_iter().map(|line| (line.question, line.verdict)));
        }
        Ok(Journal { path: path.to_owned(), verdicts })
    }

    pub fn verdict(&self, question: &str) -> Option<f64> {
        self.verdicts.get(question).copied()
    }

    /// One write a line: a crash tears at most the last.
    pub fn append(&mut self, line: Line) -> Result<(), PairsError> {
        let text = serde_json::json!(line).to_string() + "\n";
        append(&self.path, text.as_bytes()).map_err(files::Error::from)?;
        self.verdicts.insert(line.question, line.verdict);
        Ok(())
    }
}
