//! Fields of a row by type; absent and null are the same.

use serde_json::Value;
use smpo_chat::json_kind;

use super::Row;

/// A field that is there and not null.
pub(crate) fn given<'a>(row: &'a Row, field: &str) -> Option<&'a Value> {
    row.get(field).filter(|value| !value.is_null())
}

/// A string field.
pub(crate) fn text(row: &Row, field: &str) -> Result<Option<String>, String> {
    match given(row, field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{field}`: expected a string, got {}", json_kind(other))),
    }
}

/// A count; some programs write it as `9.0` or `"9"`.
pub(crate) fn count(row: &Row, field: &str) -> Result<Option<u32>, String> {
    let Some(value) = given(row, field) else { return Ok(None) };
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    let whole = number.filter(|number| number.fract() == 0.0 && (0.0..=u32::MAX.into()).contains(number));
    match whole {
        Some(count) => Ok(Some(count as u32)),
        None => Err(format!("`{field}`: expected an integer from 0 to {}, got {value}", u32::MAX)),
    }
}

/// A list field.
pub(crate) fn list<'a>(row: &'a Row, field: &str) -> Result<Option<&'a [Value]>, String> {
    match given(row, field) {
        None => Ok(None),
        Some(Value::Array(values)) => Ok(Some(values)),
        Some(other) => Err(format!("`{field}`: expected a list, got {}", json_kind(other))),
    }
}

/// The first of several fields that is there.
pub(crate) fn first<T>(
    row: &Row,
    fields: &[&str],
    read: impl Fn(&Row, &str) -> Result<Option<T>, String>,
) -> Result<Option<T>, String> {
    for field in fields {
        if let Some(value) = read(row, field)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The message of an error field: a text, or an object with a message; none where the field says that there is none.
pub(crate) fn error_text(row: &Row, field: &str) -> Option<String> {
    match given(row, field)? {
        Value::Bool(false) => None,
        Value::String(text) if text.trim().is_empty() => None,
        Value::Object(error) if error.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(error) => {
            let message = error_text(error, "message").or_else(|| error_text(error, "error"));
            Some(message.unwrap_or_else(|| Value::Object(error.clone()).to_string()))
        }
        other => Some(other.to_string()),
    }
}
