//! The tokens of a tag or an expression.

use crate::rewriting::tags::Piece;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Word,
    Number,
    Quoted,
    Symbol,
}

/// A token, with its places in the piece.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// Symbols of two bytes.
const DOUBLE: [&str; 6] = ["==", "!=", "<=", ">=", "//", "**"];

/// The tokens between the marks of a piece.
pub(crate) fn tokens(piece: Piece<'_>) -> impl Iterator<Item = Token> + '_ {
    let code = piece.text();
    let is_closed = code.ends_with("}}") || code.ends_with("%}");
    let end = if is_closed { code[..code.len() - 2].trim_end_matches(['-', '+']).len() } else { code.len() };
    let mut at = code.len() - code[2..].trim_start_matches(['-', '+']).len();
    std::iter::from_fn(move || {
        let rest = code.get(at..end)?;
        let start = at + (rest.len() - rest.trim_start().len());
        let rest = &code[start..end];
        let first = rest.chars().next()?;
        let length = |matches: fn(char) -> bool| rest.find(|c| !matches(c)).unwrap_or(rest.len());
        let (kind, length) = match first {
            '\'' | '"' => (Kind::Quoted, quoted(rest, first)),
            '0'..='9' => (Kind::Number, number(rest)),
            c if is_word(c) => (Kind::Word, length(is_word)),
            _ if DOUBLE.iter().any(|double| rest.starts_with(double)) => (Kind::Symbol, 2),
            c => (Kind::Symbol, c.len_utf8()),
        };
        at = start + length;
        Some(Token { kind, start, end: at })
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

/// The length of a string with its quotes; all of the code when it never closes.
fn quoted(code: &str, quote: char) -> usize {
    let mut escaped = false;
    let closes = |c: char| {
        let closes = !escaped && c == quote;
        escaped = !escaped && c == '\\';
        closes
    };
    code[1..].find(closes).map_or(code.len(), |at| at + 2)
}

/// The length of a number, whose exponent may have a sign.
fn number(code: &str) -> usize {
    let bytes = code.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let is_exponent = matches!(byte, b'e' | b'E') && !code.starts_with("0x") && !code.starts_with("0X");
        let has_sign = matches!(bytes.get(at + 1), Some(b'-' | b'+')) && is_digit(at + 2);
        match byte {
            _ if is_exponent && has_sign => at += 2,
            b'.' if is_digit(at + 1) => at += 1,
            byte if byte.is_ascii_alphanumeric() || *byte == b'_' => at += 1,
            _ => break,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::tokens;
    use crate::rewriting::tags::Piece;

    #[test]
    fn code_is_taken_apart() {
        let code = r"{{- a['\'b'].c//1.5e-3--2|é ~'x' <= 0xe-1 -}}";
        let found: Vec<&str> = tokens(Piece::Expression(code)).map(|token| &code[token.start..token.end]).collect();
        let expected = [
            "a", "[", r"'\'b'", "]", ".", "c", "//", "1.5e-3", "-", "-", "2", "|", "é", "~", "'x'", "<=", "0xe", "-",
            "1",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_sign_or_a_point_belongs_to_a_number_where_a_digit_follows() {
        for (code, expected) in [
            ("{{1.x}}", &["1", ".", "x"][..]),
            ("{{1.5}}", &["1.5"]),
            ("{{1e-x}}", &["1e", "-", "x"]),
            ("{{1e+5}}", &["1e+5"]),
            ("{{1e55}}", &["1e55"]),
        ] {
            let found: Vec<&str> = tokens(Piece::Expression(code)).map(|token| &code[token.start..token.end]).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_never_closes_ends_somewhere() {
        for code in ["{{", "{{-", "{{ 'a", "{% \"\\", "{{ 1e-"] {
            assert!(tokens(Piece::Expression(code)).count() <= 3);
        }
    }
}
