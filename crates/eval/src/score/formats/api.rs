//! Bodies of API responses: chat completions, completions, the Responses API, Anthropic messages, Gemini, Ollama, llama.cpp's
//! own.

use serde_json::Value;
use smpo_chat::Content;

use crate::conversation::conversation;
use crate::json_rows::{Row, count, error_text, first, given, list, text};
use crate::score::record::Record;

/// True if an object is the body of a response of any of the APIs.
pub(super) fn fits(body: &Row) -> bool {
    let is_list = |name: &str| body.get(name).is_some_and(Value::is_array);
    let is_message = |choice: &Value| choice.get("message").is_some() || choice.get("text").is_some();
    body.get("choices").and_then(Value::as_array).is_some_and(|choices| choices.iter().all(is_message))
        || is_list("candidates")
        || is_list("output") && body.contains_key("status")
        || is_list("content") && body.contains_key("stop_reason")
        || body.contains_key("content") && body.contains_key("tokens_predicted")
        || body.contains_key("done") && (body.contains_key("message") || body.contains_key("response"))
}

/// The completions of a body: one, or a sample for each choice; a failed one where it has none.
pub(super) fn records(body: &Row) -> Result<Vec<Record>, String> {
    let error = error_text(body, "error").or_else(|| without_choices(body));
    // only some programs repeat the prompt
    let messages = conversation(body, false).ok().flatten().unwrap_or_default();
    if let Some(error) = error {
        return Ok(vec![Record { model: model(body)?, sample: Some(0), messages, ..Record::failed(error) }]);
    }
    let records = if let Some(choices) = list(body, "choices")? {
        choices.iter().map(|choice| self::choice(choice, "message")).collect::<Result<Vec<_>, _>>()?
    } else if let Some(candidates) = list(body, "candidates")? {
        candidates.iter().map(|candidate| choice(candidate, "content")).collect::<Result<Vec<_>, _>>()?
    } else {
        vec![single(body)?]
    };
    let (tokens, several) = (tokens(body)?, records.len() > 1);
    let place = |(position, record): (usize, Record)| -> Result<Record, String> {
        Ok(Record {
            model: model(body)?,
            messages: messages.clone(),
            sample: record.sample.or(u32::try_from(position).ok()),
            // the usage counts the tokens of all choices together
            tokens: record.tokens.or(tokens.filter(|_| !several)),
            ..record
        })
    };
    records.into_iter().enumerate().map(place).collect()
}

/// The reason for which a body has no completion: its list of them is empty, or null.
fn without_choices(body: &Row) -> Option<String> {
    let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let name = ["choices", "candidates"].into_iter().find(|name| body.get(*name).is_some_and(is_empty))?;
    let blocked = body.get("promptFeedback").and_then(|feedback| feedback.get("blockReason")?.as_str());
    Some(blocked.map_or_else(|| format!("`{name}` is empty"), |reason| format!("blocked: {reason}")))
}

/// One of several completions, in `message` or `content`, or as a text of its own.
fn choice(choice: &Value, message: &str) -> Result<Record, String> {
    let Value::Object(choice) = choice else { return Err("`choices`: expected objects".into()) };
    let content = match choice.get(message) {
        Some(Value::Object(message)) => {
            crate::conversation::written(message).or_else(|_| Content::of_message(message))?
        }
        _ => Content { text: text(choice, "text")?.unwrap_or_default(), reasoning: None },
    };
    Ok(Record { sample: count(choice, "index")?, ..Record::written(content) }.finished(choice))
}

/// The only completion of a body.
fn single(body: &Row) -> Result<Record, String> {
    let content = match ["output", "content", "message", "response"].iter().find_map(|name| given(body, name)) {
        Some(value) => Content::of_value(value)?,
        None => {
            return Err("expected a response with `choices`, `output`, `content`, `candidates` or `message`".into());
        }
    };
    // Ollama's `thinking` stands beside `response`
    let thinking = text(body, "thinking")?.filter(|text| !text.is_empty());
    let reasoning = content.reasoning.or(thinking);
    Ok(Record { reasoning, ..Record::new(content.text) }.finished(body))
}

fn model(body: &Row) -> Result<Option<String>, String> {
    first(body, &["model", "modelVersion"], text)
}

fn tokens(body: &Row) -> Result<Option<u32>, String> {
    if let Some(count) = first(body, &["eval_count", "tokens_predicted"], count)? {
        return Ok(Some(count));
    }
    for (usage, names) in [
        ("usage", ["completion_tokens", "output_tokens"]),
        ("usageMetadata", ["candidatesTokenCount", "candidates_token_count"]),
    ] {
        if let Some(Value::Object(usage)) = body.get(usage) {
            return first(usage, &names, count);
        }
    }
    Ok(None)
}
