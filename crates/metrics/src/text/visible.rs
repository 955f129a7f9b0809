//! The parts of a completion: reasoning, and the answer that a reader sees.

use std::borrow::Cow;

use smpo_results::{FinishReason, Sample};

/// Tags around reasoning that is inline, in the chat formats that have it.
const TAGS: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
];

/// Replacement characters that a character cut in half by the cap can leave: one for each of its bytes but the last.
const CUT_CHARACTER: usize = 3;

/// Everything that the model wrote: the reasoning of a field of its own, then the completion, as if it were inline.
pub fn whole(sample: &Sample) -> Cow<'_, str> {
    match sample.reasoning.as_deref() {
        None | Some("") => Cow::Borrowed(&sample.completion),
        Some(reasoning) if sample.completion.is_empty() => Cow::Borrowed(reasoning),
        Some(reasoning) => Cow::Owned(format!("{reasoning}\n\n{}", sample.completion)),
    }
}

/// The completion without inline reasoning. Reasoning that never ends leaves no answer.
pub fn answer(completion: &str) -> &str {
    let start = completion.trim_start();
    for (open, close) in TAGS {
        if let Some(rest) = start.strip_prefix(open) {
            return rest.split_once(close).map_or("", |(_, answer)| answer);
        }
    }
    // Templates that open the reasoning themselves leave the closing tag alone in the completion.
    let closes = |after: &str| ["think", "THINK"].iter().any(|name| after.starts_with(name));
    if !completion.split('/').skip(1).any(closes) {
        return completion;
    }
    TAGS[..3]
        .iter()
        .filter(|(open, _)| !completion.contains(open))
        .find_map(|(_, close)| completion.split_once(close))
        .map_or(completion, |(_, answer)| answer)
}

/// True if something of the text can be seen: neither white space, nor control characters, nor characters without width
/// or ink.
pub fn is_visible(text: &str) -> bool {
    text.chars().any(|c| !has_no_ink(c))
}

fn has_no_ink(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c as u32,
            0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f // soft hyphen, joiners, fillers
            | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0x2800 | 0x3164 // zero width, direction, blanks
            | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb // variation selectors, byte order mark
            | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff) // shorthand, music, tags
}

/// The text without what a cut in the middle of a character left at its end.
pub fn without_cut_character(text: &str) -> &str {
    (0..CUT_CHARACTER).fold(text, |text, _| text.strip_suffix('\u{fffd}').unwrap_or(text))
}

/// The text that is looked at for damage: the end of one that a terminator did not end may be a character cut in half.
pub fn without_cut_end(text: &str, finish: FinishReason) -> &str {
    if finish == FinishReason::Eos { text } else { without_cut_character(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_stands_before_the_answer() {
        let mut sample = Sample::new("p", "four");
        assert_eq!(whole(&sample), "four");
        sample.reasoning = Some("two and two".into());
        assert_eq!(whole(&sample), "two and two\n\nfour");
        sample.completion.clear();
        assert_eq!(whole(&sample), "two and two");
    }

    #[test]
    fn answers_come_after_the_reasoning() {
        for (completion, expected) in [
            ("four", "four"),
            ("<think>two and two</think>\nfour", "\nfour"),
            ("\n<think>\ntwo and", ""),
            ("two and two\n</think>\n\nfour", "\n\nfour"),
            ("[THINK]hm[/THINK]4", "4"),
            ("◁think▷hm◁/think▷4", "4"),
            ("Models write <think> before and </think> after.", "Models write <think> before and </think> after."),
        ] {
            assert_eq!(answer(completion), expected, "{completion:?}");
        }
    }

    #[test]
    fn blanks_are_not_visible() {
        for text in [
            "",
            " \n\t\r",
            "\u{200b}\u{feff}\u{2060}",
            "\u{a0}\u{3000}",
            "\0\u{7f}\u{1b}",
            "\u{2800}\u{3164}\u{ad}",
            "\u{fe0f}\u{e0041}",
        ] {
            assert!(!is_visible(text), "{text:?}");
        }
        for text in [".", "\u{200b}a", "💖", "日", "\u{fffd}"] {
            assert!(is_visible(text), "{text:?}");
        }
    }

    #[test]
    fn a_cut_leaves_at_most_three_replacement_characters() {
        assert_eq!(without_cut_character("a\u{fffd}\u{fffd}\u{fffd}"), "a");
        assert_eq!(without_cut_character("a\u{fffd}\u{fffd}\u{fffd}\u{fffd}"), "a\u{fffd}");
        assert_eq!(without_cut_end("a\u{fffd}", FinishReason::Eos), "a\u{fffd}");
    }
}
