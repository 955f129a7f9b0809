//! lm-evaluation-harness samples of generation tasks: `{"doc_id", "arguments", "resps", "target", …}`.
//!
//! `resps` holds one list of repeats per request; a generation task has one request. The task comes from the file's
//! name, `samples_TASK_DATE.jsonl`, and is the slice; the model from the directory. The harness cuts at its `until`
//! strings and does not say whether it did, so the finish is unknown. Tasks of log-likelihoods have no completions.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use smpo_chat::json_kind;
use smpo_results::Message;

use super::{Read, each};
use crate::conversation::of_json_text;
use crate::input_error::InputError;
use crate::json_rows::{Row, list};
use crate::score::names::stem;
use crate::score::record::Record;

pub(super) fn fits(row: &Row) -> bool {
    let has = |field: &str| row.contains_key(field);
    has("resps") && (has("doc") || has("arguments") || has("doc_id"))
}

pub(super) fn read(path: &Path, rows: &[(usize, Row)]) -> Result<Read, InputError> {
    if rows.iter().all(|(_, row)| is_likelihood(row)) {
        return Ok(Read::Skipped(
            "`resps` holds log-likelihoods, not completions: expected the samples of a generation task".into(),
        ));
    }
    let mut records = each(path, rows, |row| records(row, path))?;
    // The harness writes a document once per filter, the responses unchanged: the first one counts.
    let mut seen = HashSet::new();
    records.retain(|(_, record)| seen.insert((record.id.clone(), record.sample, record.completion.clone())));
    Ok(Read::Records(records))
}

/// The responses of a generation task are texts; those of others are pairs or numbers.
fn is_likelihood(row: &Row) -> bool {
    let Some(Value::Array(requests)) = row.get("resps") else { return false };
    let first = requests.first().and_then(|repeats| repeats.get(0));
    first.is_some_and(|first| first.is_array() || first.is_number())
}

fn records(row: &Row, path: &Path) -> Result<Vec<Record>, String> {
    let task = task(path);
    let doc = match row.get("doc_id") {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        _ => return Err("expected a `doc_id`, got none".into()),
    };
    let requests = list(row, "resps")?.ok_or("expected a list in `resps`, got none")?;
    let [Value::Array(repeats)] = requests else {
        return Err(format!("`resps`: expected one list of completions, got {} requests", requests.len()));
    };
    let (messages, cap) = prompt(row);
    let model = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let mut records = Vec::new();
    let none = [Value::Null];
    let repeats = if repeats.is_empty() { &none } else { &repeats[..] };
    for (sample, response) in repeats.iter().enumerate() {
        let answer = match response {
            Value::String(completion) => Record::new(completion),
            Value::Null => Record::failed("no response"),
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
            ..answer
        });
    }
    Ok(records)
}

/// `samples_gsm8k_2024-06-01T12-00-00.123456.jsonl` is of `gsm8k`.
fn task(path: &Path) -> String {
    let stem = stem(path);
    let name = stem.strip_prefix("samples_").unwrap_or(&stem);
    match name.rsplit_once('_') {
        Some((task, date)) if date.starts_with(|c: char| c.is_ascii_digit()) && date.contains('T') => task.to_owned(),
        _ => name.to_owned(),
    }
}

/// The context and the cap: `[[context, {…}]]`, or `{"gen_args_0": {"arg_0": context, "arg_1": {…}}}`.
fn prompt(row: &Row) -> (Vec<Message>, Option<u32>) {
    let (context, options) = match row.get("arguments") {
        Some(Value::Array(requests)) => {
            (requests.first().and_then(|r| r.get(0)), requests.first().and_then(|r| r.get(1)))
        }
        Some(Value::Object(requests)) => {
            let request = requests.get("gen_args_0");
            (request.and_then(|r| r.get("arg_0")), request.and_then(|r| r.get("arg_1")))
        }
        _ => (None, None),
    };
    // Chat requests are a list with one text, the JSON of the messages.
    let context = match context {
        Some(Value::Array(texts)) => texts.first(),
        other => other,
    };
    let messages = context.and_then(Value::as_str);
    let messages = messages.map(|text| of_json_text(text).unwrap_or_else(|| vec![Message::user(text)]));
    let cap = options.and_then(|options| options.get("max_gen_toks")).and_then(Value::as_u64);
    (messages.unwrap_or_default(), cap.and_then(|cap| u32::try_from(cap).ok()))
}
