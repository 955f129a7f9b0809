//! Logs of openai/evals: a line with the `spec`, then events; those of the type `sampling` hold prompt and answer.

use std::path::Path;

use serde_json::Value;

use super::{Read, each};
use crate::conversation::conversation;
use crate::input_error::InputError;
use crate::json_rows::{Row, given, text};
use crate::score::record::Record;

pub(super) fn fits(row: &Row) -> bool {
    row.get("spec").is_some_and(|spec| spec.get("completion_fns").is_some())
        || row.contains_key("event_id") && row.contains_key("sample_id")
}

pub(super) fn read(path: &Path, rows: &[(usize, Row)]) -> Result<Read, InputError> {
    let model = rows.iter().find_map(|(_, row)| row.get("spec")?.get("completion_fns")?.get(0)?.as_str());
    let records = each(path, rows, |row| {
        if row.get("type").and_then(Value::as_str) != Some("sampling") {
            return Ok(Vec::new());
        }
        let data = given(row, "data").and_then(Value::as_object).ok_or("expected an object in `data`")?;
        let sampled = match given(data, "sampled") {
            Some(Value::Array(samples)) => samples.as_slice(),
            Some(sample) => std::slice::from_ref(sample),
            None => return Err("`data`: expected the completion in `sampled`, got none".into()),
        };
        let messages = conversation(data, false)?.unwrap_or_default();
        let id = text(row, "sample_id")?;
        sampled
            .iter()
            .map(|sample| {
                let completion = sample.as_str().ok_or("`sampled`: expected strings")?;
                let (model, id, messages) = (model.map(str::to_owned), id.clone(), messages.clone());
                Ok(Record { model, id, messages, ..Record::new(completion) })
            })
            .collect()
    })?;
    Ok(Read::Records(records))
}
