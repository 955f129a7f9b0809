//! Outputs of batches: each row has the id of its request, and a response or an error.
//!
//! | API | row |
//! |---|---|
//! | OpenAI, Azure, Mistral, vLLM's `run_batch` | `{"custom_id", "response": {"status_code", "body"}, "error"}` |
//! | Anthropic | `{"custom_id", "result": {"type": "succeeded", "message"}}` |
//! | Gemini | `{"key", "response"}` |
//!
//! Prompts are in the batch's input, which `--prompts` takes. Failed requests name no model: they are the file's.

use serde_json::{Map, Value};

use super::api;
use crate::json_rows::{Row, count, error_text, given};
use crate::prompts;
use crate::score::record::Record;

pub(super) fn fits(row: &Row) -> bool {
    let has = |field: &str| row.contains_key(field);
    has("custom_id") && (has("response") || has("error") || has("result"))
        || has("key") && (row.get("response").is_some_and(Value::is_object) || has("error"))
}

pub(super) fn records(row: &Row) -> Result<Vec<Record>, String> {
    let id = prompts::id(row, false)?.ok_or("expected a `custom_id`, got none")?;
    let records = match body(row)? {
        Ok(body) => api::records(body)?,
        Err(error) => vec![Record { sample: Some(0), ..Record::failed(error) }],
    };
    Ok(records.into_iter().map(|record| Record { id: Some(id.clone()), ..record }).collect())
}

/// The body of the response, or the error of the request.
fn body(row: &Row) -> Result<Result<&Row, String>, String> {
    if let Some(error) = error_text(row, "error") {
        return Ok(Err(error));
    }
    if let Some(result) = object(row, "result")? {
        let kind = given(result, "type").and_then(Value::as_str).unwrap_or("no type");
        return Ok(match object(result, "message")? {
            Some(message) => Ok(message),
            None => Err(error_text(result, "error").unwrap_or_else(|| kind.to_owned())),
        });
    }
    let Some(response) = object(row, "response")? else { return Ok(Err("neither a response nor an error".into())) };
    if let Some(status) = count(response, "status_code")?.filter(|status| !(200..300).contains(status)) {
        let message = object(response, "body").ok().flatten().and_then(|body| error_text(body, "error"));
        return Ok(Err(message.unwrap_or_else(|| format!("status {status}"))));
    }
    Ok(match object(response, "body")? {
        Some(body) => Ok(body),
        // Gemini's response is the body itself
        None if api::fits(response) => Ok(response),
        None => Err("a response without a body".into()),
    })
}

fn object<'a>(row: &'a Row, field: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    match given(row, field) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(format!("`{field}`: expected an object, got {}", smpo_chat::json_kind(other))),
    }
}
