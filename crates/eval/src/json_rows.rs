//! JSON objects with their lines: one a line, or the elements of one array.
//!
//! Text that is not quite text is no reason to lose a file: bytes that are no UTF-8 and escapes of lone surrogates
//! (Python writes them) become U+FFFD, which `broken_rate` then counts.

use std::path::Path;

use serde_json::{Map, Value};
use smpo_chat::json_kind;

use crate::input_error::InputError;

/// The fields of one row.
pub type Row = Map<String, Value>;

/// Reads a file; blank lines are skipped, an empty file is an error.
///
/// # Errors
/// [`InputError`] at the first line that is no JSON object.
pub fn read(path: &Path) -> Result<Vec<(usize, Row)>, InputError> {
    let bytes = std::fs::read(path).map_err(|source| InputError::Io { path: path.to_owned(), source })?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}');
    let rows = if text.trim_start().starts_with('[') { array(path, text)? } else { lines(path, text)? };
    if rows.is_empty() {
        return Err(InputError::whole(path, "expected JSON objects, got an empty file"));
    }
    Ok(rows)
}

fn lines(path: &Path, text: &str) -> Result<Vec<(usize, Row)>, InputError> {
    let mut rows = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let value = parse(line)
            .map_err(|error| InputError::line(path, index + 1, format!("expected one JSON object a line: {error}")))?;
        rows.push(object(path, index + 1, value)?);
    }
    Ok(rows)
}

/// The lines of elements are lost in an array: their numbers stand in.
fn array(path: &Path, text: &str) -> Result<Vec<(usize, Row)>, InputError> {
    let value = parse(text)
        .map_err(|error| InputError::line(path, error.line().max(1), format!("expected a JSON array: {error}")))?;
    let Value::Array(values) = value else { return Ok(Vec::new()) };
    values.into_iter().enumerate().map(|(index, value)| object(path, index + 1, value)).collect()
}

fn object(path: &Path, line: usize, value: Value) -> Result<(usize, Row), InputError> {
    match value {
        Value::Object(row) => Ok((line, row)),
        other => Err(InputError::line(path, line, format!("expected a JSON object, got {}", json_kind(&other)))),
    }
}

fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match without_lone_surrogates(text) {
        Some(replaced) => serde_json::from_str(&replaced),
        None => Err(error),
    })
}

/// The text with escapes of lone surrogates replaced; `None` where there is none.
fn without_lone_surrogates(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let escape = |at: usize| -> Option<u32> {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mut replaced, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(offset) = bytes[at..].iter().position(|&byte| byte == b'\\') {
        at += offset;
        match escape(at) {
            Some(0xd800..0xdc00) if matches!(escape(at + 6), Some(0xdc00..0xe000)) => at += 12,
            Some(0xd800..0xe000) => {
                replaced.push_str(&text[copied..at]);
                replaced.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            // an escape of one character, a backslash among them
            _ => at = (at + 2).min(bytes.len()),
        }
    }
    replaced.push_str(&text[copied..]);
    (copied > 0).then_some(replaced)
}

/// A string field; absent and null are the same.
pub(crate) fn text(row: &Row, field: &str) -> Result<Option<String>, String> {
    match row.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{field}`: expected a string, got {}", json_kind(other))),
    }
}

/// A count; absent and null are the same.
pub(crate) fn count(row: &Row, field: &str) -> Result<Option<u32>, String> {
    match row.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|count| u32::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(format!("`{field}`: expected an integer from 0 to {}, got {value}", u32::MAX)),
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        for (json, expected) in [
            (r#""a\ud83dz""#, "a\u{fffd}z"),
            (r#""\udc00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\ude00 \ud83d""#, "😀 \u{fffd}"),
            (r#""\\ud83d \ud83d""#, "\\ud83d \u{fffd}"),
            (r#""\u0000\ud800""#, "\0\u{fffd}"),
        ] {
            assert_eq!(parse(json).expect(json), Value::String(expected.into()), "{json}");
        }
        assert!(parse(r#""\ud83""#).is_err());
        assert!(parse("\"\\").is_err());
        assert_eq!(without_lone_surrogates(r#""plain \n \ud83d\ude00""#), None);
    }
}
