//! Escapes in the strings of a template that Python reads and the engine leaves as they are, or the other way round.

use crate::rewriting::tags::{Piece, pieces};

/// Writes them as both read them.
///
/// # Errors
/// A problem to tell, for a character by its name.
pub(crate) fn rewrite(source: &str) -> Result<String, String> {
    pieces(source)
        .map(|piece| match piece {
            Piece::Tag(text) | Piece::Expression(text) => rewrite_code(text),
            piece => Ok(piece.text().to_owned()),
        })
        .collect()
}

fn rewrite_code(code: &str) -> Result<String, String> {
    let (mut out, mut quote, mut rest) = (String::with_capacity(code.len()), None, code.chars());
    while let Some(c) = rest.next() {
        if c != '\\' || quote.is_none() {
            quote = match quote {
                None => Some(c).filter(|c| matches!(c, '\'' | '"')),
                open => open.filter(|open| *open != c),
            };
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('\n') => {}
            Some('a') => out.push_str("\\x07"),
            Some('v') => out.push_str("\\x0b"),
            Some('/') => out.push_str("\\\\/"),
            Some('N') => return Err(format!("characters by their names, `\\N{{…}}`, are not supported: {code}")),
            Some('U') => {
                let digits: String = rest.by_ref().take(8).collect();
                let c = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 8).and_then(char::from_u32);
                let c =
                    c.ok_or_else(|| format!("expected `\\U` and the 8 hexadecimal digits of a character: {code}"))?;
                out.push_str(if matches!(c, '\\' | '\'' | '"') { "\\" } else { "" });
                out.push(c);
            }
            Some(escaped) => out.extend(['\\', escaped]),
            None => out.push('\\'),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn escapes_in_strings_are_rewritten_and_nothing_else() {
        for (source, rewritten) in [
            ("{{ 'a\\\nb' }}", "{{ 'ab' }}"),
            (r"{{ '\a\v\/' ~ '\U0001f600\U00000027' }}", "{{ '\\x07\\x0b\\\\/' ~ '😀\\'' }}"),
            (r"{{ '\\a\'\a' }}", r"{{ '\\a\'\x07' }}"),
        ] {
            assert_eq!(rewrite(source).unwrap(), rewritten);
        }
        for same in
            [r"\a {# '\a' #}", r"{{ '\n\t\x41\u00e9\d' }}", r"{% raw %}{{ '\a' }}{% endraw %}", r"{{ \a }}", r"{{ 'a\"]
        {
            assert_eq!(rewrite(same).unwrap(), same);
        }
        for refused in [r"{{ '\N{BULLET}' }}", r"{{ '\U0011ffff' }}", r"{{ '\U1' }}"] {
            assert!(rewrite(refused).is_err());
        }
    }
}
