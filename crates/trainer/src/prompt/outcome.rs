//! Prompts that were found, as they are written.

use std::path::Path;

use serde::{Deserialize, Serialize};
use smpo_files::write_whole;
use smpo_suggest::counted;

use crate::config::PromptConfig;
use crate::error::{TrainError, io};

/// Version of the file.
const SCHEMA: u32 = 1;

/// A prompt with its losses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Its text.
    pub text: String,
    /// The tokens that were learned.
    pub ids: Vec<u32>,
    /// Loss of the measured rows with the text in place, whatever tokens the tokenizer cuts it into there.
    pub loss: f64,
    /// The same with the tokens that were learned.
    pub loss_of_ids: f64,
    /// Share of the pairs that the model orders as the data does, of a reward model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Steps after which it was found; 0 for the start.
    pub step: u64,
}

/// Result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Optimized {
    /// Version of the layout.
    pub schema: u32,
    /// The model.
    pub model: String,
    /// Kind of the loss.
    pub loss: String,
    /// Settings of the search.
    pub prompt: PromptConfig,
    /// Rows that were learned on.
    pub rows: usize,
    /// Rows that the losses are of.
    pub measured_rows: usize,
    /// True if those are rows apart.
    pub held_out: bool,
    /// Loss of the measured rows as they are.
    pub loss_without: f64,
    /// Accuracy of the same, of a reward model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_without: Option<f64>,
    /// Loss with the text that the prompts started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_of_init: Option<f64>,
    /// The prompts, the best first.
    pub prompts: Vec<Found>,
}

impl Optimized {
    /// The version that is written.
    pub(super) const SCHEMA: u32 = SCHEMA;

    /// Reads the file of a run.
    ///
    /// # Errors
    /// When it cannot be read or is another program's.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(io(path, "read"))?;
        serde_json::from_str(&text).map_err(|error| TrainError::config(path, Some(error.line()), error.to_string()))
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::from).map_err(io(path, "write"))?;
        Ok(write_whole(path, (text + "\n").as_bytes())?)
    }

    /// The losses and the prompts, a line each.
    pub fn text(&self) -> String {
        let (count, rows, measured) = (self.prompts.len(), self.rows, self.measured_rows);
        let which = match (self.held_out, measured) {
            (true, 1) => "other",
            (true, _) => "others",
            (false, _) => "of them",
        };
        let of = if self.loss == "reward" { "pairs" } else { "the answers, in nats a token" };
        let accuracy = |share: Option<f64>| share.map_or_else(String::new, |share| format!(", accuracy {share:.3}"));
        let mut lines = vec![
            format!("{} learned on {}, measured on {measured} {which}", counted(count, "prompt"), counted(rows, "row")),
            format!("loss of {of}:"),
            format!("  {:.4}  as the rows are{}", self.loss_without, accuracy(self.accuracy_without)),
        ];
        lines.extend(self.loss_of_init.map(|loss| format!("  {loss:.4}  with prompt.init")));
        for found in &self.prompts {
            let when = if found.step == 0 { "start".to_owned() } else { format!("step {}", found.step) };
            lines.push(format!("  {:.4}  with {:?} ({when}{})", found.loss, found.text, accuracy(found.accuracy)));
        }
        lines.join("\n")
    }
}
