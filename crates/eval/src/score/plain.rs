//! Lines with a prompt and a completion under any of their usual names, or a conversation that ends with the
//! assistant.

use serde_json::Value;
use smpo_chat::json_kind;
use smpo_results::FinishReason;

use super::{Record, finish};
use crate::json_rows::{Row, count, first, text};
use crate::prompts;

const COMPLETION: [&str; 6] = ["completion", "output", "response", "answer", "generated_text", "prediction"];

/// True if a row has a completion.
pub(super) fn fits(row: &Row) -> bool {
    COMPLETION.iter().any(|field| row.get(*field).is_some_and(Value::is_string)) || ends_with_assistant(row)
}

fn ends_with_assistant(row: &Row) -> bool {
    let last = row.get("messages").and_then(Value::as_array).and_then(|messages| messages.last());
    last.is_some_and(|message| message.get("role").and_then(Value::as_str) == Some("assistant"))
}

pub(super) fn records(row: &Row) -> Result<Vec<Record>, String> {
    let mut messages = prompts::conversation(row, false)?.unwrap_or_default();
    let completion = match first(row, &COMPLETION, text)? {
        Some(completion) => completion,
        None if ends_with_assistant(row) => messages.pop().map(|last| last.content).unwrap_or_default(),
        None => {
            return Err(format!(
                "expected a completion in one of {}, or a conversation that ends with the assistant",
                COMPLETION.join(", ")
            ));
        }
    };
    let finish_reason = finish::read(row)?;
    let error = text(row, "error")?;
    Ok(vec![Record {
        model: first(row, &["model", "model_id", "generator"], text)?,
        id: prompts::id(row, false)?,
        sample: count(row, "sample")?,
        slice: first(row, &["slice", "category", "dataset"], text)?,
        messages,
        reference: text(row, "reference")?,
        closed: match row.get("closed") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(closed)) => *closed,
            Some(other) => return Err(format!("`closed`: expected true or false, got {}", json_kind(other))),
        },
        language: text(row, "language")?,
        finish_reason: if error.is_some() { FinishReason::Error } else { finish_reason },
        tokens: first(row, &["tokens", "completion_tokens"], count)?,
        cap: first(row, &["cap", "max_tokens"], count)?,
        error,
        ..Record::new(completion)
    }])
}
