//! Bytes that are no UTF-8: damage within UTF-8, or text in another encoding.

use std::collections::HashSet;
use std::fmt;

/// Stray bytes from which on another encoding is assumed.
const FEW: usize = 3;

/// Text in another encoding than UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ForeignEncoding {
    /// 1-based line of the first byte that shows it.
    pub line: usize,
    byte: u8,
    strays: usize,
}

impl fmt::Display for ForeignEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (byte, strays) = (self.byte, self.strays);
        write!(
            f,
            "expected UTF-8, got the byte 0x{byte:02x} and {} like it: the file seems to be in another encoding; write it \
             as UTF-8, for instance with `iconv -f WINDOWS-1252 -t UTF-8`",
            strays - 1
        )
    }
}

/// The text with U+FFFD in place of what is no UTF-8, and a remark on it.
///
/// UTF-8 that was damaged, or cut inside of a character, has characters beyond ASCII left, or sequences that begin well.
/// Text in a one-byte encoding has bytes of several values that stand alone, and hardly any character by chance.
pub(super) fn replace_damage(bytes: &[u8]) -> Result<(String, Option<String>), ForeignEncoding> {
    let mut text = String::with_capacity(bytes.len());
    let (mut strays, mut cut, mut characters) = (0, 0, 0);
    let mut values = HashSet::new();
    let mut first = None;
    for chunk in bytes.utf8_chunks() {
        characters += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        text.push_str(chunk.valid());
        match chunk.invalid() {
            [] => continue,
            [byte] => {
                strays += 1;
                values.insert(*byte);
            }
            _ => cut += 1,
        }
        let line = || text.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let (line, byte) = *first.get_or_insert_with(|| (line(), chunk.invalid()[0]));
        first = Some((line, byte));
        text.push(char::REPLACEMENT_CHARACTER);
    }
    let Some((line, byte)) = first else { return Ok((text, None)) };
    if strays >= FEW && values.len() > 1 && strays >= 10 * (cut + characters) {
        return Err(ForeignEncoding { line, byte, strays });
    }
    let (broken, place, count) = match strays + cut {
        1 => ("1 sequence of bytes is".to_owned(), "", "it counts"),
        several => (format!("{several} sequences of bytes are"), "the first ", "they count"),
    };
    let remark = format!(
        "{broken} no UTF-8, {place}on line {line}: {count} as broken text; if the file is in another encoding, convert it \
         first"
    );
    Ok((text, Some(remark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_replaced_and_another_encoding_refused() {
        for damaged in [
            &b"a\xff\xfeb"[..],
            b"\xff\xff\xff\xff\xff\xff",
            "naïve \u{fffd}".as_bytes(),
            b"cut \xf0\x9f\x98",
            b"\xf0\x9f\x98 \xe4\xb8 \xf0\x9f",
            b"\xd0\xbc\xd0\xb8\xd1\x80 \xd0 \xd1 \xd0",
            b"one caf\xe9",
        ] {
            assert!(replace_damage(damaged).is_ok(), "{}", damaged.escape_ascii());
        }
        assert_eq!(replace_damage(b"a\xf0\x9f\x98b").unwrap().0, "a\u{fffd}b");
        for foreign in [
            &b"M\xfcller, na\xefve caf\xe9 \x97 \x80 5"[..],
            // CP1251
            b"\xcf\xf0\xe8\xe2\xe5\xf2, \xec\xe8\xf0",
        ] {
            assert!(replace_damage(foreign).is_err(), "{}", foreign.escape_ascii());
        }
        let found = replace_damage(b"\n\nM\xfcller \xfc \xe9").unwrap_err();
        assert_eq!((found.line, found.byte, found.strays), (3, 0xfc, 3));
    }
}
