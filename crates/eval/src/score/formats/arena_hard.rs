//! Arena-Hard-Auto answers: `{"uid", "model", "messages": [{"role": "user"}, {"content": {"answer"}, "role": "assistant"}]}`.
//!
//! `content` also holds `thought` where the model reasons. The conversation before the answer is the prompt.

use serde_json::Value;

use super::plain;
use crate::json_rows::Row;
use crate::score::record::Record;

pub(super) fn fits(row: &Row) -> bool {
    row.contains_key("uid")
        && row.get("messages").and_then(Value::as_array).and_then(|m| m.last()).is_some_and(is_answer)
}

fn is_answer(message: &Value) -> bool {
    let content = message.get("content");
    // FastChat's mark of a failed call is a text
    content.is_some_and(|content| content.get("answer").is_some() || content.as_str() == Some(super::FAILED))
}

pub(super) fn records(row: &Row) -> Result<Vec<Record>, String> {
    plain::records(row)
}
