//! HELM's `scenario_state.json`: `{"adapter_spec": {"model"}, "request_states": [{"instance", "request", "result"}]}`.

use serde_json::Value;

use crate::conversation::conversation;
use crate::json_rows::{Row, count, error_text, given, list, text};
use crate::prompts;
use crate::score::record::Record;

pub(super) fn fits(row: &Row) -> bool {
    row.contains_key("request_states")
}

pub(super) fn records(state: &Row) -> Result<Vec<Record>, String> {
    let spec = given(state, "adapter_spec").and_then(Value::as_object);
    let model = spec.map(|spec| text(spec, "model")).transpose()?.flatten();
    let requests = list(state, "request_states")?.ok_or("expected a list in `request_states`, got none")?;
    let mut records = Vec::new();
    for (position, request) in requests.iter().enumerate() {
        let found = request.as_object().ok_or("expected an object".to_owned()).and_then(completions);
        let found = found.map_err(|problem| format!("`request_states[{position}]`: {problem}"))?;
        records.extend(found.into_iter().map(|record| Record { model: model.clone(), ..record }));
    }
    Ok(records)
}

fn completions(state: &Row) -> Result<Vec<Record>, String> {
    let object = |name: &str| given(state, name).and_then(Value::as_object);
    let instance = object("instance").ok_or("expected an object in `instance`")?;
    let request = object("request");
    let input = given(instance, "input").map(|input| input.get("text").unwrap_or(input)).and_then(Value::as_str);
    // the prompt in full, with its examples
    let messages = match request {
        Some(request) => conversation(request, false)?,
        None => input.map(|text| vec![smpo_results::Message::user(text)]),
    };
    let common = Record {
        id: prompts::id(instance, false)?,
        messages: messages.unwrap_or_default(),
        cap: request.map(|request| count(request, "max_tokens")).transpose()?.flatten(),
        ..Record::new("")
    };
    let Some(result) = object("result") else { return Ok(vec![common.fail("no result")]) };
    if result.get("success") == Some(&Value::Bool(false)) {
        return Ok(vec![common.fail(error_text(result, "error").unwrap_or_else(|| "not a success".into()))]);
    }
    let completions = list(result, "completions")?.unwrap_or_default();
    if completions.is_empty() {
        return Ok(vec![common.fail("`completions` is empty")]);
    }
    let record = |completion: &Value| {
        let completion = completion.as_object().ok_or("`completions`: expected objects")?;
        let tokens = given(completion, "tokens").and_then(Value::as_array).filter(|tokens| !tokens.is_empty());
        let record = Record {
            completion: text(completion, "text")?.unwrap_or_default(),
            tokens: tokens.and_then(|tokens| u32::try_from(tokens.len()).ok()),
            ..common.clone()
        };
        Ok(record.finished(completion))
    };
    completions.iter().map(record).collect()
}
