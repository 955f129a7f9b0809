//! Formats of completion files and their detection.

use std::str::FromStr;

use serde_json::Value;

use crate::json_rows::Row;
use crate::score::plain;

/// A format of completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// This project's `samples.jsonl`.
    Smpo,
    /// FastChat `model_answer`.
    FastChat,
    /// AlpacaEval `model_outputs`.
    AlpacaEval,
    /// lm-evaluation-harness `samples_*.jsonl`.
    LmEval,
    /// OpenAI batch output.
    OpenAiBatch,
    /// Prompt and completion lines.
    Plain,
}

impl InputFormat {
    /// Every format, in the order of detection.
    pub const ALL: [InputFormat; 6] = [
        InputFormat::Smpo,
        InputFormat::FastChat,
        InputFormat::OpenAiBatch,
        InputFormat::LmEval,
        InputFormat::AlpacaEval,
        InputFormat::Plain,
    ];

    /// Name on the command line.
    pub fn id(self) -> &'static str {
        match self {
            InputFormat::Smpo => "smpo",
            InputFormat::FastChat => "fastchat",
            InputFormat::AlpacaEval => "alpaca_eval",
            InputFormat::LmEval => "lm_eval",
            InputFormat::OpenAiBatch => "openai_batch",
            InputFormat::Plain => "plain",
        }
    }

    /// The format of a file whose first row this is.
    pub(super) fn detect(row: &Row) -> Result<Self, String> {
        let has = |field: &str| row.contains_key(field);
        let has_turns = || match row.get("choices") {
            Some(Value::Array(choices)) => choices.iter().any(|choice| choice.get("turns").is_some()),
            _ => false,
        };
        let fits = |format: &InputFormat| match format {
            InputFormat::Smpo => has("schema") && has("prompt_id") && has("completion"),
            InputFormat::FastChat => has_turns(),
            InputFormat::OpenAiBatch => has("custom_id") && (has("response") || has("error")),
            InputFormat::LmEval => has("resps") && (has("doc") || has("arguments") || has("doc_id")),
            InputFormat::AlpacaEval => has("instruction") && has("output"),
            InputFormat::Plain => plain::fits(row),
        };
        Self::ALL.into_iter().find(fits).ok_or_else(|| {
            let fields: Vec<&str> = row.keys().map(String::as_str).take(12).collect();
            format!(
                "no known format of completions has the fields {}; expected one of {}, or rename the completion's \
                 field to `completion`",
                fields.join(", "),
                Self::ALL.map(Self::id).join(", ")
            )
        })
    }
}

impl FromStr for InputFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.id() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::id);
            let hint = smpo_suggest::did_you_mean(name, known);
            format!("unknown format {name:?}{hint}: expected one of {}", known.join(", "))
        })
    }
}
