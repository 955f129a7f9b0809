//! JSON as servers write it: Python's `NaN` and `Infinity` included.

use serde_json::Value;

/// Parses JSON; `NaN`, `Infinity` and `-Infinity` become null.
///
/// # Errors
/// The parser's, for a body that is no JSON either way.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| match without_not_finite(bytes) {
        Some(finite) => serde_json::from_slice(&finite),
        None => Err(error),
    })
}

/// `bytes` with null in the place of numbers that JSON does not have; `None` where there are none.
fn without_not_finite(bytes: &[u8]) -> Option<Vec<u8>> {
    const NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut finite = Vec::with_capacity(bytes.len());
    let (mut index, mut in_string, mut found) = (0, false, false);
    while let Some(&byte) = bytes.get(index) {
        let number = NUMBERS.iter().find(|number| !in_string && bytes[index..].starts_with(number));
        if let Some(number) = number {
            finite.extend_from_slice(b"null");
            index += number.len();
            found = true;
            continue;
        }
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                finite.push(byte);
                index += 1;
            }
            _ => {}
        }
        finite.extend(bytes.get(index));
        index += 1;
    }
    found.then_some(finite)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_that_json_lacks_are_null() {
        let value = parse(br#"{"a": [NaN, -Infinity,Infinity, -1.5], "NaN": "say \"NaN\" and -Infinity\\"}"#);
        let expected = json!({"a": [null, null, null, -1.5], "NaN": "say \"NaN\" and -Infinity\\"});
        assert_eq!(value.expect("readable"), expected);
        for broken in ["", "{", "{\"a\": NaN", "NaNs", "\"\\", "<html>"] {
            assert!(parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
