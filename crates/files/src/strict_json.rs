//! JSON as Python writes it, escapes of lone surrogates, `NaN` and `Infinity` included, as JSON.

use std::borrow::Cow;

/// Numbers that are not JSON, longest first.
const NON_FINITE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// The text with `\ufffd` in the place of each escape of a lone surrogate, and `null` in that of a number that is not
/// finite. A text that is no JSON otherwise stays none.
pub fn strict_json(text: &str) -> Cow<'_, str> {
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
    use super::strict_json;

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        for (json, expected) in [
            (r#""a\ud83dz""#, r#""a\ufffdz""#),
            (r#""\udc00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ude00 \ud83d""#, r#""\ud83d\ude00 \ufffd""#),
            (r#""\\ud83d \ud83d""#, r#""\\ud83d \ufffd""#),
            (r#""\u0000\ud800""#, r#""\u0000\ufffd""#),
            (r#""plain \n \ud83d\ude00""#, r#""plain \n \ud83d\ude00""#),
            (r#""\ud83""#, r#""\ud83""#),
            ("\"\\", "\"\\"),
        ] {
            assert_eq!(strict_json(json), expected);
        }
    }

    #[test]
    fn numbers_that_only_python_writes_are_null() {
        let text = r#"{"a": NaN, "b": [-Infinity,Infinity, -1], "NaN": "NaN \" Infinity\\"}"#;
        assert_eq!(strict_json(text), r#"{"a": null, "b": [null,null, -1], "NaN": "NaN \" Infinity\\"}"#);
    }
}
