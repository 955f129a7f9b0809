//! Python's `NaN` and `Infinity`, which are not JSON: rows that hold them are read all the same, and are refused only
//! where the value itself is.

use std::borrow::Cow;

use serde_json::Value;
use smpo_chat::json_kind;

/// Numbers that Python's `json` writes, longest first.
const NON_FINITE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
/// The only key of the object that stands for such a number; its value is the number's text.
const KEY: &str = "\u{0}not finite";

/// The text with an object in place of every number that is not finite; `None` where there is none.
pub fn with_non_finite(text: &str) -> Option<String> {
    let mut out = String::new();
    let (mut rest, mut in_string, mut escaped, mut copied) = (0, false, false, 0);
    let bytes = text.as_bytes();
    while rest < bytes.len() {
        let byte = bytes[rest];
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if byte == b'"' {
            in_string = true;
        } else if let Some(number) = NON_FINITE.iter().find(|number| bytes[rest..].starts_with(number.as_bytes())) {
            out.push_str(&text[copied..rest]);
            out.push_str(&format!("{{\"\\u0000not finite\":\"{number}\"}}"));
            rest += number.len();
            copied = rest;
            continue;
        }
        rest += 1;
    }
    out.push_str(&text[copied..]);
    (copied > 0).then_some(out)
}

/// The type of a value as a noun phrase, for errors.
pub(crate) fn kind(value: &Value) -> Cow<'static, str> {
    match non_finite(value) {
        Some(number) => number.to_string().into(),
        None => json_kind(value).into(),
    }
}

/// True for a JSON object, unless it stands for a number that is not finite.
pub(crate) fn is_object(value: &Value) -> bool {
    value.is_object() && non_finite(value).is_none()
}

/// The number that an object stands for.
pub fn non_finite(value: &Value) -> Option<&str> {
    value.as_object().filter(|map| map.len() == 1)?.get(KEY)?.as_str()
}

/// The first number that is not finite in a value, with its path.
pub(crate) fn find_non_finite(value: &Value, path: &str) -> Option<(String, String)> {
    if let Some(number) = non_finite(value) {
        return Some((path.to_string(), number.to_string()));
    }
    match value {
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| find_non_finite(item, &format!("{path}[{at}]")))
        }
        Value::Object(map) => map.iter().find_map(|(key, item)| find_non_finite(item, &format!("{path}.{key}"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{find_non_finite, kind, with_non_finite};

    #[test]
    fn numbers_in_texts_are_left_alone() {
        assert_eq!(with_non_finite(r#"{"a": "NaN \" Infinity", "b": 1}"#), None);
    }

    #[test]
    fn every_number_is_found_where_it_stands() {
        let text = with_non_finite(r#"{"a": NaN, "b": ["NaN", {"c": -Infinity}], "d": Infinity}"#).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!([kind(&value["a"]), kind(&value["b"][0]), kind(&value["d"])], ["NaN", "a string", "Infinity"]);
        assert_eq!(find_non_finite(&value["b"], "b"), Some(("b[1].c".into(), "-Infinity".into())));
    }
}
