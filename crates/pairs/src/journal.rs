//! Scores that took a model, on disk: one line each, under the hash of everything that they depend on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smpo_files::{AppendFile, FileError, create_dirs, cut_torn_line};
use smpo_results::files;

use crate::PairsError;

/// One judgement or reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// SHA-256 of the model and what it was given.
    pub question: String,
    /// Grade, or 1, ½, 0 for the first of two, or the reward.
    pub verdict: f64,
    /// The reply that a judgement was read from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reply: String,
}

/// The file and what it holds.
pub(crate) struct Journal {
    path: PathBuf,
    /// Opened by the first line.
    file: Option<AppendFile>,
    verdicts: HashMap<String, f64>,
}

impl Journal {
    /// Reads the lines of earlier calls; half a line that a crash left at the end is removed.
    pub fn open(path: &Path) -> Result<Journal, PairsError> {
        let mut verdicts = HashMap::new();
        if smpo_files::exists(path).map_err(files::Error::from)? {
            cut_torn_line(path).map_err(files::Error::from)?;
            let lines = files::read_jsonl::<Line>(path, "score")?;
            verdicts.extend(lines.into_iter().map(|line| (line.question, line.verdict)));
        }
        Ok(Journal { path: path.to_owned(), file: None, verdicts })
    }

    pub fn verdict(&self, question: &str) -> Option<f64> {
        self.verdicts.get(question).copied()
    }

    fn write(&mut self, text: &str) -> Result<(), FileError> {
        let file = match &mut self.file {
            Some(file) => file,
            closed => {
                create_dirs(self.path.parent().unwrap_or(&self.path))?;
                closed.insert(AppendFile::open(&self.path)?)
            }
        };
        file.append(text.as_bytes())
    }

    /// One write a call: a crash tears at most the last line.
    pub fn append(&mut self, lines: impl IntoIterator<Item = Line>) -> Result<(), PairsError> {
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::json!(line).to_string());
            text.push('\n');
            self.verdicts.insert(line.question, line.verdict);
        }
        Ok(self.write(&text).map_err(files::Error::from)?)
    }
}
