//! Results of promptfoo: `{"evalId", "results": {"results": [{"prompt": {"raw"}, "provider": {"id"}, "response"}]}}`.
//!
//! The provider is the model; prompts pair by their text.

use serde_json::Value;
use smpo_chat::Content;

use crate::json_rows::{Row, error_text, given, list, text};
use crate::score::record::Record;

pub(super) fn fits(row: &Row) -> bool {
    row.get("results").is_some_and(|results| {
        results.get("results").is_some_and(Value::is_array)
            || results.get(0).is_some_and(|result| result.get("provider").is_some() && result.get("prompt").is_some())
    })
}

pub(super) fn records(document: &Row) -> Result<Vec<Record>, String> {
    let results = match given(document, "results") {
        Some(Value::Object(results)) => list(results, "results")?,
        _ => list(document, "results")?,
    };
    let results = results.ok_or("expected a list in `results`, got none")?;
    let record = |(position, result): (usize, &Value)| {
        let result = result.as_object().ok_or("expected an object".to_owned());
        result.and_then(record).map_err(|problem| format!("`results[{position}]`: {problem}"))
    };
    results.iter().enumerate().map(record).collect()
}

fn record(result: &Row) -> Result<Record, String> {
    let response = given(result, "response").and_then(Value::as_object);
    let error =
        error_text(result, "error").filter(|_| response.is_none_or(|response| !response.contains_key("output")));
    let error = error.or_else(|| response.and_then(|response| error_text(response, "error")));
    let record = match (error, response) {
        (Some(error), _) => Record::failed(error),
        (None, None) => Record::failed("no response"),
        (None, Some(response)) => match given(response, "output") {
            None => Record::failed("no output"),
            Some(output) => {
                // an output that promptfoo parsed as JSON
                let content = Content::of_value(output)
                    .ok()
                    .filter(|content| !output.is_object() || !content.text.is_empty())
                    .unwrap_or_else(|| Content { text: output.to_string(), reasoning: None });
                Record::written(content).finished(response)
            }
        },
    };
    let provider = given(result, "provider");
    let model = match provider {
        Some(Value::Object(provider)) => {
            text(provider, "label")?.filter(|label| !label.is_empty()).or(text(provider, "id")?)
        }
        _ => text(result, "provider")?,
    };
    let raw = match given(result, "prompt") {
        Some(Value::Object(prompt)) => text(prompt, "raw")?,
        _ => text(result, "prompt")?,
    };
    Ok(Record { model, messages: raw.map(|raw| super::prompt_of_text(&raw)).unwrap_or_default(), ..record })
}
