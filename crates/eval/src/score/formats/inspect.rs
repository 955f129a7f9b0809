//! Logs of inspect, as JSON: `{"version", "eval": {"task", "model"}, "samples": [{"id", "epoch", "input", "output"}]}`; or as
//! an archive, `.eval`, of `header.json`, the log without its samples, and a file a sample.
//!
//! The task is the slice, the epoch the sample. Where tools were used the output is the last one.

use std::path::Path;

use serde_json::Value;
use smpo_files::{read_archive, sha256};

use super::api;
use crate::conversation::conversation;
use crate::input_error::InputError;
use crate::json_rows::{self, Row, Rows, count, error_text, given, list, text};
use crate::prompts;
use crate::score::record::Record;

pub(super) fn fits(row: &Row) -> bool {
    row.contains_key("eval") && (row.contains_key("samples") || row.contains_key("plan"))
}

pub(super) fn records(log: &Row) -> Result<Vec<Record>, String> {
    let samples = list(log, "samples")?.ok_or("expected the `samples` of the log, got a log without them")?;
    let eval = log.get("eval").and_then(Value::as_object).ok_or("expected an object in `eval`")?;
    let (model, task) = (text(eval, "model")?, text(eval, "task")?);
    let mut records = Vec::new();
    for (position, sample) in samples.iter().enumerate() {
        let at = |problem: String| format!("`samples[{position}]`: {problem}");
        let Value::Object(sample) = sample else { return Err(at("expected an object".into())) };
        let record = record(sample, task.as_deref()).map_err(at)?;
        records.push(Record { model: model.clone(), slice: task.clone(), ..record });
    }
    Ok(records)
}

fn record(sample: &Row, task: Option<&str>) -> Result<Record, String> {
    let id = prompts::id(sample, false)?.ok_or("expected an `id`, got none")?;
    let output = given(sample, "output").and_then(Value::as_object);
    let error = error_text(sample, "error").or_else(|| output.and_then(|output| error_text(output, "error")));
    let answered = output.filter(|_| error.is_none()).map(api::records).transpose()?;
    let record = answered.and_then(|records| records.into_iter().next());
    let target = given(sample, "target").map(|target| target.get(0).unwrap_or(target));
    Ok(Record {
        id: Some(task.map_or_else(|| id.clone(), |task| format!("{task}/{id}"))),
        sample: count(sample, "epoch")?.map(|epoch| epoch.saturating_sub(1)),
        messages: conversation(&input(sample), false)?.unwrap_or_default(),
        reference: target.and_then(Value::as_str).map(str::to_owned).filter(|target| !target.is_empty()),
        ..record.unwrap_or_else(|| Record::failed(error.unwrap_or_else(|| "no output".into())))
    })
}

/// Names of the log without its samples: of one that is finished, and of one that is being written.
const HEADERS: [&str; 2] = ["header.json", "_journal/start.json"];

/// The log in an archive, as it would be in one document; `None` for a file that is no archive.
///
/// # Errors
/// For an archive of another kind, and one that cannot be read.
pub(in crate::score) fn of_archive(path: &Path) -> Result<Option<Rows>, InputError> {
    let is_sample = |name: &str| name.starts_with("samples/") && name.ends_with(".json");
    let wanted = |name: &str| HEADERS.contains(&name) || is_sample(name);
    let files =
        read_archive(path, wanted).map_err(|error| InputError::Io { path: path.to_owned(), source: error.source })?;
    let Some(files) = files else { return Ok(None) };
    let mut text = Vec::new();
    let (mut header, mut samples) = (None, Vec::new());
    for file in files {
        text.extend(&file.bytes);
        let value = json_rows::value(&file.bytes)
            .map_err(|problem| InputError::whole(path, format!("`{}` in the archive: {problem}", file.name)))?;
        match value {
            value if is_sample(&file.name) => samples.push(value),
            Value::Object(log) if header.is_none() || file.name == HEADERS[0] => header = Some(log),
            _ => {}
        }
    }
    let Some(mut log) = header else {
        let problem = "a zip archive that is no log of inspect (`.eval`): it has no `header.json`; unpack it first";
        return Err(InputError::whole(path, problem));
    };
    log.insert("samples".to_owned(), Value::Array(samples));
    Ok(Some(Rows { rows: vec![(1, log)], sha256: sha256(&text), damage: None }))
}

/// The input alone: `messages` go on to the answer.
fn input(sample: &Row) -> Row {
    sample.get("input").map(|input| ("input".to_owned(), input.clone())).into_iter().collect()
}
