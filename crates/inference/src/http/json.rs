//! JSON as servers write it: what Python's `json` adds to it included.

use serde_json::Value;
use smpo_files::strict_json;

/// Parses JSON; `NaN`, `Infinity` and `-Infinity` become null, escapes of lone surrogates U+FFFD.
///
/// # Errors
/// The parser's, for a body that is no JSON either way.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(&strict_json(text)),
        Err(_) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_json_lacks_is_null_or_replaced() {
        let value = parse(br#"{"a": [NaN, -Infinity,Infinity, -1.5], "NaN": "say \"NaN\" and \ud83d\\"}"#);
        let expected = json!({"a": [null, null, null, -1.5], "NaN": "say \"NaN\" and \u{fffd}\\"});
        assert_eq!(value.expect("readable"), expected);
        for broken in [&b""[..], b"{", b"{\"a\": NaN", b"NaNs", b"\"\\", b"<html>", b"\"\xff\""] {
            assert!(parse(broken).is_err(), "{broken:?}");
        }
    }
}
