//! FastChat and Arena answers: `{"question_id", "model_id", "choices": [{"index", "turns": […]}]}`.
//!
//! A turn is a string, or an object with `content`. Each choice is a sample; each turn is a prompt of its own, in the
//! slice `turn_1`, `turn_2`… where there are several. Prompts are not in the file: they come from `--prompts`. The
//! `token_len` of some files counts another tokenizer's tokens and is left alone.

use serde_json::Value;

use super::Record;
use crate::json_rows::{Row, count, text};
use crate::prompts;

/// FastChat's completion of a failed API call (`API_ERROR_OUTPUT`).
const FAILED: &str = "$ERROR$";

pub(super) fn records(row: &Row) -> Result<Vec<Record>, String> {
    let id = prompts::id(row, false)?.ok_or("expected a `question_id`, got none")?;
    let model = text(row, "model_id")?;
    let Some(Value::Array(choices)) = row.get("choices") else { return Err("expected a list in `choices`".into()) };
    let mut records = Vec::new();
    for (position, choice) in choices.iter().enumerate() {
        let Value::Object(choice) = choice else { return Err("`choices`: expected objects".into()) };
        let Some(Value::Array(turns)) = choice.get("turns") else {
            return Err("`choices`: expected a list in `turns`".into());
        };
        let sample = count(choice, "index")?.or(u32::try_from(position).ok());
        for (number, turn) in turns.iter().enumerate() {
            let completion = prompts::turn_text(turn)?;
            let record =
                if completion == FAILED { Record::failed("FastChat: $ERROR$") } else { Record::new(completion) };
            let several = turns.len() > 1;
            let (id, slice) = if several {
                (format!("{id}/turn_{}", number + 1), Some(format!("turn_{}", number + 1)))
            } else {
                (id.clone(), None)
            };
            records.push(Record { model: model.clone(), id: Some(id), sample, slice, ..record });
        }
    }
    Ok(records)
}
