//! Logs of inspect, as JSON: `{"version", "eval": {"task", "model"}, "samples": [{"id", "epoch", "input", "output"}]}`.
//!
//! The task is the slice, the epoch the sample. Where tools were used the output is the last one.

use serde_json::Value;

use super::api;
use crate::conversation::conversation;
use crate::json_rows::{Row, count, error_text, given, list, text};
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

/// The input alone: `messages` go on to the answer.
fn input(sample: &Row) -> Row {
    sample.get("input").map(|input| ("input".to_owned(), input.clone())).into_iter().collect()
}
