//! Output of an OpenAI batch: `{"custom_id", "response": {"status_code", "body": {"choices": […]}}, "error"}`.
//!
//! Each choice is a sample. Prompts are in the batch's input, which `--prompts` takes.

use serde_json::Value;

use super::{Record, finish};
use crate::json_rows::{Row, count, text};
use crate::prompts;

pub(super) fn records(row: &Row) -> Result<Vec<Record>, String> {
    let id = prompts::id(row, false)?.ok_or("expected a `custom_id`, got none")?;
    let failed =
        |error: &Value| vec![Record { id: Some(id.clone()), sample: Some(0), ..Record::failed(error.to_string()) }];
    if let Some(error) = row.get("error").filter(|error| !error.is_null()) {
        return Ok(failed(error));
    }
    let response = row.get("response").and_then(Value::as_object).ok_or("expected an object in `response`")?;
    let body = response.get("body").and_then(Value::as_object).ok_or("`response`: expected an object in `body`")?;
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        return Ok(failed(error));
    }
    if let Some(status) = count(response, "status_code")?.filter(|status| !(200..300).contains(status)) {
        return Ok(failed(&Value::from(format!("status {status}"))));
    }
    let Some(Value::Array(choices)) = body.get("choices") else {
        return Err("`response.body`: expected a list in `choices`".into());
    };
    // `usage` counts the tokens of all choices together.
    let tokens = match (choices.len(), body.get("usage").and_then(Value::as_object)) {
        (1, Some(usage)) => count(usage, "completion_tokens")?,
        _ => None,
    };
    let mut records = Vec::new();
    for (position, choice) in choices.iter().enumerate() {
        let Value::Object(choice) = choice else { return Err("`choices`: expected objects".into()) };
        let completion = match choice.get("message") {
            Some(Value::Object(message)) => text(message, "content")?,
            _ => text(choice, "text")?,
        };
        records.push(Record {
            model: text(body, "model")?,
            id: Some(id.clone()),
            sample: count(choice, "index")?.or(u32::try_from(position).ok()),
            finish_reason: finish::read(choice)?,
            tokens,
            // null where the model called a tool or refused: it wrote nothing
            ..Record::new(completion.unwrap_or_default())
        });
    }
    Ok(records)
}
