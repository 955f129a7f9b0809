//! Messages that a column holds as text, as tables of texts (CSV) have them: their JSON is read, what Python prints is not.

use serde_json::Value;

use super::speakers::speaker;
use crate::read_error::Problem;

/// A value, or the messages that it spells out.
///
/// # Errors
/// For messages as Python prints them.
pub(super) fn unquoted(value: Value, field: &str) -> Result<Value, Problem> {
    let Value::String(text) = &value else { return Ok(value) };
    let text = text.trim();
    if !text.starts_with(['[', '{', 'a']) {
        return Ok(value);
    }
    if is_printed(text) {
        return Err(Problem::WrongType {
            field: field.to_string(),
            expected: "a text, messages or their JSON",
            got: "messages as Python prints them, not JSON; read the column with `ast.literal_eval` and save it as a list, \
                  or with `json.dumps`"
                .to_string(),
        });
    }
    match serde_json::from_str(text) {
        Ok(read) if are_messages(&read) => Ok(read),
        _ => Ok(value),
    }
}

/// True for a message, or a list of nothing else. An answer may be other JSON.
fn are_messages(value: &Value) -> bool {
    let messages = match value {
        Value::Array(messages) => messages.as_slice(),
        other => std::slice::from_ref(other),
    };
    let role = |message: &Value| message.get("role").or(message.get("from"))?.as_str().map(str::to_owned);
    let says = |message: &Value| ["content", "value", "tool_calls"].iter().any(|name| message.get(name).is_some());
    messages.iter().all(|message| role(message).is_some() && says(message))
        && messages.iter().filter_map(role).any(|role| speaker(&role).is_some())
}

/// True for messages as `print` and `str` of Python write them, also those of NumPy: keys stand in single quotes.
fn is_printed(text: &str) -> bool {
    let listed = text.strip_prefix("array(").unwrap_or(text);
    let first = listed.trim_start_matches(|c: char| c == '[' || c.is_whitespace());
    let is_dict = first.strip_prefix('{').is_some_and(|keys| keys.trim_start().starts_with('\''));
    let has = |names: [&str; 2]| names.iter().any(|name| text.contains(&format!("'{name}':")));
    is_dict && has(["role", "from"]) && has(["content", "value"])
}
