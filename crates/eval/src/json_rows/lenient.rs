//! JSON as Python writes it: escapes of lone surrogates, `NaN` and `Infinity`.

use std::borrow::Cow;

use serde_json::Value;

/// Numbers that are not JSON, longest first.
const NON_FINITE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// One JSON value.
pub(super) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match repaired(text) {
        Cow::Owned(repaired) => serde_json::from_str(&repaired),
        Cow::Borrowed(_) => Err(error),
    })
}

/// The text with escapes of lone surrogates replaced by that of U+FFFD, and numbers that are not finite by `null`.
pub(super) fn repaired(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let escape = |at: usize| -> Option<u32> {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mut repaired, mut copied, mut at, mut in_string) = (String::new(), 0, 0, false);
    while at < bytes.len() {
        let (length, replacement) = match bytes[at] {
            b'"' => {
                in_string = !in_string;
                (1, None)
            }
            b'\\' => match escape(at) {
                Some(0xd800..0xdc00) if matches!(escape(at + 6), Some(0xdc00..0xe000)) => (12, None),
                Some(0xd800..0xe000) => (6, Some("\\ufffd")),
                // an escape of one character, a backslash or a quotation mark among them
                _ => (2, None),
            },
            b'-' | b'I' | b'N' if !in_string => {
                match NON_FINITE.iter().find(|number| bytes[at..].starts_with(number.as_bytes())) {
                    Some(number) => (number.len(), Some("null")),
                    None => (1, None),
                }
            }
            _ => (1, None),
        };
        if let Some(replacement) = replacement {
            repaired.push_str(&text[copied..at]);
            repaired.push_str(replacement);
            copied = at + length;
        }
        at += length;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    repaired.push_str(&text[copied..]);
    Cow::Owned(repaired)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        assert_eq!(repaired(r#""plain \n \ud83d\ude00""#), r#""plain \n \ud83d\ude00""#);
    }

    #[test]
    fn numbers_that_only_python_writes_are_null() {
        let value = parse(r#"{"a": NaN, "b": [-Infinity, Infinity, -1], "c": "NaN \" Infinity"}"#).unwrap();
        assert_eq!(value, json!({"a": null, "b": [null, null, -1], "c": "NaN \" Infinity"}));
    }
}
