//! The probe's prompts: the files that evaluation suites have, read for what a probe needs.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use smpo_chat::Message;
use smpo_data::order;
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

use crate::config::ProbeConfig;
use crate::error::{TrainError, io};

/// One prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    /// The row's own id, or its line.
    pub id: String,
    /// The conversation as the model sees it, with the header that opens its turn.
    pub ids: Vec<u32>,
    /// The gold answer as a completion, with its terminator.
    pub gold: Option<Vec<u32>>,
}

/// Other fields are those of an evaluation: slices, languages.
#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    messages: Option<Vec<Message>>,
    #[serde(default)]
    reference: Option<String>,
}

/// Epoch number under which prompts are drawn: no training epoch has it.
const DRAW: u64 = u64::MAX - 2;

/// Reads the file, draws what is wanted with the seed, in file order, and tokenises it.
pub(super) fn read(config: &ProbeConfig, seed: u64, tokenizer: &ChatTokenizer) -> Result<Vec<Prompt>, TrainError> {
    let path = &config.prompts;
    let text = fs::read_to_string(path).map_err(io(path, "read"))?;
    let lines: Vec<(usize, &str)> = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return Err(at(path, 1, "expected a prompt on every line, got an empty file".to_owned()));
    }
    let mut drawn = order(lines.len(), DRAW, seed);
    drawn.truncate(config.max_prompts);
    drawn.sort_unstable();
    // The rows that are not drawn are read too: a file is right or wrong as a whole.
    let mut rows: Vec<(usize, Row)> = Vec::with_capacity(lines.len());
    for (index, line) in &lines {
        rows.push((index + 1, parse(path, index + 1, line)?));
    }
    drawn.into_iter().map(|index| prompt(path, rows[index].0, &rows[index].1, tokenizer)).collect()
}

fn parse(path: &Path, line: usize, text: &str) -> Result<Row, TrainError> {
    let row: Row = serde_json::from_str(text).map_err(|error| at(path, line, format!("expected a prompt: {error}")))?;
    match (&row.prompt, &row.messages) {
        (Some(_), None) => Ok(row),
        (None, Some(messages)) if messages.last().is_some_and(|last| last.role != "assistant") => Ok(row),
        (None, Some(_)) => {
            Err(at(path, line, "`messages`: expected a list that does not end with the assistant".to_owned()))
        }
        (None, None) => Err(at(path, line, "expected `prompt` or `messages`, got neither".to_owned())),
        (Some(_), Some(_)) => Err(at(path, line, "expected `prompt` or `messages`, got both".to_owned())),
    }
}

fn prompt(path: &Path, line: usize, row: &Row, tokenizer: &ChatTokenizer) -> Result<Prompt, TrainError> {
    let messages = match (&row.prompt, &row.messages) {
        (Some(prompt), _) => vec![Message::user(prompt)],
        (None, messages) => messages.clone().unwrap_or_default(),
    };
    let refused = |error: TokenizerError| at(path, line, error.to_string());
    let gold = match &row.reference {
        Some(text) => Some(tokenizer.encode_completion(&messages, &[Message::assistant(text)]).map_err(refused)?),
        None => None,
    };
    Ok(Prompt {
        id: row.id.clone().unwrap_or_else(|| format!("line {line}")),
        ids: tokenizer.encode_prompt(&messages).map_err(refused)?,
        gold: gold.map(|gold| gold.completion_ids),
    })
}

fn at(path: &Path, line: usize, message: String) -> TrainError {
    TrainError::config(path, Some(line), message)
}
