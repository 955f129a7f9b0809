//! Control characters (C0, C1, bidirectional, zero-width): shown by name, never passed on.

use std::borrow::Cow;

/// Label of a character that is invisible, reorders text or controls a terminal; `None` for a character that may stay as
/// it is. Newlines and tabs are left to the sink.
pub(crate) fn label(c: char) -> Option<Cow<'static, str>> {
    let named = match c {
        '\t' | '\n' => return None,
        '\u{7f}' => "␡",
        '\u{ad}' => "SHY",
        '\u{61c}' => "ALM",
        '\u{180e}' => "MVS",
        '\u{200b}' => "ZWSP",
        '\u{200e}' => "LRM",
        '\u{200f}' => "RLM",
        '\u{2028}' => "LS",
        '\u{2029}' => "PS",
        '\u{202a}' => "LRE",
        '\u{202b}' => "RLE",
        '\u{202c}' => "PDF",
        '\u{202d}' => "LRO",
        '\u{202e}' => "RLO",
        '\u{2060}' => "WJ",
        '\u{2066}' => "LRI",
        '\u{2067}' => "RLI",
        '\u{2068}' => "FSI",
        '\u{2069}' => "PDI",
        '\u{feff}' => "BOM",
        _ => "",
    };
    if !named.is_empty() {
        return Some(Cow::Borrowed(named));
    }
    let code = u32::from(c);
    match code {
        // the Unicode "control pictures" block mirrors C0
        0x00..=0x1f => char::from_u32(0x2400 + code).map(|picture| Cow::Owned(picture.to_string())),
        // C1 controls, interlinear annotation, tags, and the noncharacters that XML forbids
        0x80..=0x9f | 0xfff9..=0xfffb | 0xfffe..=0xffff | 0xe0000..=0xe007f => {
            Some(Cow::Owned(format!("U+{code:04X}")))
        }
        _ => None,
    }
}

/// The code point and, where it has one, the short name: the tooltip of a shown control.
pub(crate) fn describe(c: char) -> String {
    let meaning = match c {
        '\0' => "NUL",
        '\u{1b}' => "escape",
        '\u{200b}' => "zero-width space",
        '\u{200e}' => "left-to-right mark",
        '\u{200f}' => "right-to-left mark",
        '\u{202a}' => "left-to-right embedding",
        '\u{202b}' => "right-to-left embedding",
        '\u{202c}' => "pop directional formatting",
        '\u{202d}' => "left-to-right override",
        '\u{202e}' => "right-to-left override",
        '\u{2066}' => "left-to-right isolate",
        '\u{2067}' => "right-to-left isolate",
        '\u{2068}' => "first strong isolate",
        '\u{2069}' => "pop directional isolate",
        '\u{fffd}' => "replacement character: bytes that were no text",
        '\u{feff}' => "byte-order mark",
        _ => "control character",
    };
    format!("U+{:04X} {meaning}", u32::from(c))
}

/// The text with every control character replaced by its name: C0 controls by control pictures (`␛`), others in
/// brackets (`⟨RLO⟩`). Newlines and tabs stay; a carriage return before a newline is dropped.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| label(c).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\r' && chars.peek() == Some(&'\n') {
            continue;
        }
        match label(c) {
            None => out.push(c),
            Some(label) if label.chars().count() == 1 => out.push_str(&label),
            Some(label) => {
                out.push('⟨');
                out.push_str(&label);
                out.push('⟩');
            }
        }
    }
    Cow::Owned(out)
}

/// [`visible`] on one line: newlines become `⏎`, tabs become spaces.
pub fn line(text: &str) -> String {
    visible(text).replace('\n', "⏎").replace('\t', " ")
}

/// [`line`], cut to at most `limit` characters with an ellipsis.
pub fn short_line(text: &str, limit: usize) -> String {
    // a line is at most one character longer than `limit` needs to be looked at: hostile names may be megabytes
    let head: String = text.chars().take(limit + 1).collect();
    let line = line(&head);
    if line.chars().count() <= limit {
        return line;
    }
    let mut cut: String = line.chars().take(limit.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_become_names_and_text_stays() {
        assert_eq!(visible("плохо\u{202e}abc\u{0}\u{1b}[31m\r\nx"), "плохо⟨RLO⟩abc␀␛[31m\nx");
        assert!(matches!(visible("مرحبا 👩‍💻 tab\there"), Cow::Borrowed(_)));
        assert_eq!(line("a\nb\tc"), "a⏎b c");
        assert_eq!(visible("\u{9b}31m\u{fffe}"), "⟨U+009B⟩31m⟨U+FFFE⟩");
    }

    #[test]
    fn no_control_survives_a_line() {
        let all: String = (0..0x3000u32).chain(0xe0000..0xe0080).filter_map(char::from_u32).collect();
        let shown = line(&all);
        assert!(shown.chars().all(|c| !c.is_control()));
        assert!(!shown.contains(['\u{202e}', '\u{2066}', '\u{200f}', '\u{2028}', '\u{feff}']));
    }

    #[test]
    fn long_lines_are_cut_by_characters() {
        assert_eq!(short_line("абвгд", 5), "абвгд");
        assert_eq!(short_line("абвгде", 5), "абвг…");
        assert_eq!(short_line("", 0), "");
    }
}
