//! Answered baskets: the rows as they were, each with the conversation that the model made of it.

use std::path::Path;

use serde_json::{Value, json};
use smpo_chat::Message;
use smpo_results::{FinishReason, files};

use crate::{Answered, Basket, PairsError};

/// Fields of a row that the conversation replaces.
const REPLACED: [&str; 4] = ["prompt", "messages", "system_prompt", "follow_up_prompt"];

/// Writes one row a prompt, in the layout of effective_llm_alignment's generation: the other fields of the basket's row,
/// `id`, `model`, `conversation`, `generated_message_indices` and `finish_reason` along them, `completion_tokens` where
/// the engine reports them. A prompt that the engine failed on has no row. Returns the number of rows.
///
/// # Errors
/// The file cannot be written.
pub fn write_responses(
    path: &Path,
    basket: &Basket,
    answered: &[Answered<'_>],
    model: &str,
) -> Result<usize, PairsError> {
    let answered = answered.iter().filter(|one| one.first.sample == 0 && !one.failed());
    let rows: Vec<Value> = answered.map(|one| row(basket, one, model)).collect();
    files::write_jsonl(path, "row", &rows)?;
    Ok(rows.len())
}

fn row(basket: &Basket, answered: &Answered<'_>, model: &str) -> Value {
    let id = &answered.first.prompt_id;
    let mut row = basket.entry(id).map(|entry| entry.row.clone()).unwrap_or_default();
    row.retain(|name, _| !REPLACED.contains(&name.as_str()));
    let mut conversation: Vec<Message> = answered.first.messages.clone();
    let before = conversation.len();
    conversation.extend(answered.messages());
    let generated: Vec<usize> = (0..answered.answers().count()).map(|answer| before + 2 * answer).collect();
    let reasons: Vec<&str> = answered.answers().map(|answer| word(answer.finish_reason)).collect();
    let fields = [
        ("id", row.get("id").cloned().unwrap_or_else(|| json!(id))),
        ("model", json!(model)),
        ("conversation", json!(conversation)),
        ("generated_message_indices", json!(generated)),
        ("finish_reason", json!(reasons)),
    ];
    row.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    if let Some(tokens) = answered.tokens() {
        row.insert("completion_tokens".into(), tokens.into());
    }
    Value::Object(row)
}

/// OpenAI's word for the end of a completion.
fn word(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Eos | FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Repetition => "repetition",
        FinishReason::Error => "error",
        FinishReason::Unknown => "unknown",
    }
}
