//! AlpacaEval outputs: `{"instruction", "output", "generator", "dataset"}`.
//!
//! The prompt is its own id, so that two models' files pair up in any order.

use smpo_results::Message;

use super::{Record, finish};
use crate::json_rows::{Row, first, text};
use crate::prompts;

pub(super) fn records(row: &Row) -> Result<Vec<Record>, String> {
    let instruction = text(row, "instruction")?.ok_or("expected an `instruction`, got none")?;
    let output = text(row, "output")?.ok_or("expected an `output`, got none")?;
    Ok(vec![Record {
        model: first(row, &["generator", "model"], text)?,
        id: prompts::id(row, false)?,
        slice: text(row, "dataset")?,
        messages: vec![Message::user(instruction)],
        finish_reason: finish::read(row)?,
        ..Record::new(output)
    }])
}
