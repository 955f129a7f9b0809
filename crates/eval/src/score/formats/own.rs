//! This project's own samples.

use serde_json::Value;
use smpo_results::{SCHEMA_VERSION, Sample};

use crate::json_rows::Row;
use crate::score::record::Record;

pub(super) fn fits(row: &Row) -> bool {
    ["schema", "prompt_id", "completion"].iter().all(|field| row.contains_key(*field))
}

pub(super) fn records(row: &Row) -> Result<Vec<Record>, String> {
    let sample: Sample = serde_json::from_value(Value::Object(row.clone()))
        .map_err(|error| format!("not a valid sample: {}", smpo_suggest::expected_and_got(&error.to_string())))?;
    if sample.schema > SCHEMA_VERSION {
        let found = sample.schema;
        return Err(format!(
            "schema version {found} is newer than {SCHEMA_VERSION}, the newest this smpo reads; update smpo"
        ));
    }
    Ok(vec![Record {
        model: None,
        id: Some(sample.prompt_id),
        sample: Some(sample.sample),
        slice: Some(sample.slice),
        messages: sample.messages,
        reference: sample.reference,
        closed: sample.closed,
        language: sample.language,
        reasoning: sample.reasoning,
        completion: sample.completion,
        token_ids: sample.token_ids,
        logps: sample.logps,
        terminator_logps: sample.terminator_logps,
        unknown_ids: sample.unknown_ids,
        finish_reason: sample.finish_reason,
        finish_remark: sample.finish_remark,
        tokens: sample.tokens,
        cap: sample.cap,
        error: sample.error,
    }])
}
