//! Text split into readable runs and labels of control characters, for the sample browser.

use serde::Serialize;

use super::control::{describe, label};

/// A run of a text: readable characters, or one control character shown by its label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Run {
    /// Readable text, newlines and tabs included.
    Text(String),
    /// `[label, description]` of a control, bidi or replacement character.
    Mark([String; 2]),
}

/// Splits a text into runs. The readable runs, joined, are the text without its control characters.
pub fn runs(text: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut plain = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\r' && chars.peek() == Some(&'\n') {
            continue;
        }
        let label = if c == '\u{fffd}' { Some("\u{fffd}".into()) } else { label(c) };
        match label {
            None => plain.push(c),
            Some(label) => {
                if !plain.is_empty() {
                    runs.push(Run::Text(std::mem::take(&mut plain)));
                }
                runs.push(Run::Mark([label.into_owned(), describe(c)]));
            }
        }
    }
    if !plain.is_empty() {
        runs.push(Run::Text(plain));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stand_apart_from_text() {
        let shown = runs("да\u{202e}\r\nнет\u{fffd}");
        assert_eq!(
            shown,
            [
                Run::Text("да".into()),
                Run::Mark(["RLO".into(), "U+202E right-to-left override".into()]),
                Run::Text("\nнет".into()),
                Run::Mark(["\u{fffd}".into(), "U+FFFD replacement character: bytes that were no text".into()]),
            ]
        );
        assert!(runs("").is_empty());
    }
}
