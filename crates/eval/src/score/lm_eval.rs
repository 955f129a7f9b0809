//! lm-evaluation-harness samples of generation tasks: `{"doc_id", "arguments", "resps", "target", …}`.
//!
//! `resps` holds one list of repeats per request; a generation task has one request. The task comes from the file's
//! name, `samples_TASK_DATE.jsonl`, and is the slice; the model from the directory. The harness cuts at its `until`
//! strings and does not say whether it did, so the finish is unknown.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use smpo_chat::json_kind;
use smpo_results::Message;

use super::Record;
use crate::json_rows::Row;

pub(super) fn records(row: &Row, path: &Path) -> Result<Vec<Record>, String> {
    let task = task(path);
    let doc = match row.get("doc_id") {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        _ => return Err("expected a `doc_id`, got none".into()),
    };
    let requests = match row.get("resps") {
        Some(Value::Array(requests)) => requests,
        _ => return Err("expected a list in `resps`".into()),
    };
    let [Value::Array(repeats)] = requests.as_slice() else { return Err(LIKELIHOOD.into()) };
    let (messages, cap) = prompt(row);
    let model = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let mut records = Vec::new();
    for (sample, response) in repeats.iter().enumerate() {
        let completion = match response {
            Value::String(text) => text.clone(),
            Value::Array(_) => return Err(LIKELIHOOD.into()),
            other => return Err(format!("`resps`: expected strings, got {}", json_kind(other))),
        };
        records.push(Record {
            model: model.clone(),
            id: Some(format!("{task}/{doc}")),
            sample: u32::try_from(sample).ok(),
            slice: Some(task.clone()),
            messages: messages.clone(),
            reference: match row.get("target") {
                Some(Value::String(target)) => Some(target.clone()),
                _ => None,
            },
            cap,
            ..Record::new(completion)
        });
    }
    Ok(records)
}

const LIKELIHOOD: &str = "`resps` holds log-likelihoods, not a completion: expected the samples of a generation task";

/// The harness writes a document once per filter, the responses unchanged: the first one counts.
pub(super) fn drop_repeated_filters(records: &mut Vec<(usize, Record)>) {
    let mut seen = HashSet::new();
    records.retain(|(_, record)| seen.insert((record.id.clone(), record.sample, record.completion.clone())));
}

/// `samples_gsm8k_2024-06-01T12-00-00.123456.jsonl` is of `gsm8k`.
fn task(path: &Path) -> String {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let name = stem.strip_prefix("samples_").unwrap_or(&stem);
    match name.rsplit_once('_') {
        Some((task, date)) if date.starts_with(|c: char| c.is_ascii_digit()) && date.contains('T') => task.to_owned(),
        _ => name.to_owned(),
    }
}

/// The context and the cap: `[[context, {…}]]`, or `{"gen_args_0": {"arg_0": context, "arg_1": {…}}}`.
fn prompt(row: &Row) -> (Vec<Message>, Option<u32>) {
    let arguments = row.get("arguments");
    let (context, options) = match arguments {
        Some(Value::Array(requests)) => {
            (requests.first().and_then(|r| r.get(0)), requests.first().and_then(|r| r.get(1)))
        }
        Some(Value::Object(requests)) => {
            let request = requests.get("gen_args_0");
            (request.and_then(|r| r.get("arg_0")), request.and_then(|r| r.get("arg_1")))
        }
        _ => (None, None),
    };
    let messages = context.and_then(Value::as_str).map(|text| vec![Message::user(text)]).unwrap_or_default();
    let cap = options.and_then(|options| options.get("max_gen_toks")).and_then(Value::as_u64);
    (messages, cap.and_then(|cap| u32::try_from(cap).ok()))
}
