//! FastChat and Arena answers: `{"question_id", "model_id", "choices": [{"index", "turns": […]}]}`.
//!
//! A turn is a string, or an object with `content`. Each choice is a sample; each turn is a prompt of its own, in the
//! slice `turn_1`, `turn_2`… where there are several. Prompts are not in the file: they come from `--prompts`. The
//! `token_len` of some files counts another tokenizer's tokens and is left alone.

use serde_json::Value;
use smpo_chat::Content;

use crate::json_rows::{Row, count, first, list, text};
use crate::prompts::{self, Turn};
use crate::score::record::Record;

pub(super) fn fits(row: &Row) -> bool {
    let choices = row.get("choices").and_then(Value::as_array);
    choices.is_some_and(|choices| choices.iter().any(|choice| choice.get("turns").is_some()))
}

pub(super) fn records(row: &Row) -> Result<Vec<Record>, String> {
    let question = prompts::id(row, false)?.ok_or("expected a `question_id`, got none")?;
    let model = first(row, &["model_id", "model"], text)?;
    let choices = list(row, "choices")?.ok_or("expected a list in `choices`, got none")?;
    let failed = |sample, error: &str| Record {
        model: model.clone(),
        id: Some(question.clone()),
        sample,
        ..Record::failed(error)
    };
    let mut records = Vec::new();
    if choices.is_empty() {
        records.push(failed(Some(0), "`choices` is empty"));
    }
    for (position, choice) in choices.iter().enumerate() {
        let Value::Object(choice) = choice else { return Err("`choices`: expected objects".into()) };
        let turns = list(choice, "turns")?.ok_or("`choices`: expected a list in `turns`, got none")?;
        let sample = count(choice, "index")?.or(u32::try_from(position).ok());
        if turns.is_empty() {
            records.push(failed(sample, "`turns` is empty"));
        }
        for (index, turn) in turns.iter().enumerate() {
            let content = Content::of_value(turn).map_err(|problem| format!("`turns`: {problem}"))?;
            let record = if content.text == super::FAILED {
                Record::failed("FastChat: $ERROR$")
            } else {
                Record::written(content)
            };
            let (id, slice) = match turns.len() {
                1 => (question.clone(), None),
                _ => (Turn::prompt_id(&question, index + 1), Some(Turn::slice(index + 1))),
            };
            records.push(Record { model: model.clone(), id: Some(id), sample, slice, ..record });
        }
    }
    Ok(records)
}
