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

/// The bytes of a file that are no UTF-8.
///
/// UTF-8 that was damaged, or cut inside of a character, has characters beyond ASCII left, or sequences that begin well.
/// Text in a one-byte encoding has bytes of several values that stand alone, and hardly any character by chance.
#[derive(Debug, Default)]
pub(super) struct Damage {
    strays: usize,
    cut: usize,
    /// Characters beyond ASCII.
    characters: usize,
    values: HashSet<u8>,
    /// Line and byte of the first.
    first: Option<(usize, u8)>,
}

impl Damage {
    /// The text of a line, with U+FFFD in place of what is no UTF-8.
    pub fn replace(&mut self, line: usize, bytes: Vec<u8>) -> String {
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => {
                self.count(&text);
                return text;
            }
            Err(error) => error.into_bytes(),
        };
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            self.count(chunk.valid());
            text.push_str(chunk.valid());
            match chunk.invalid() {
                [] => continue,
                [byte] => {
                    self.strays += 1;
                    self.values.insert(*byte);
                }
                _ => self.cut += 1,
            }
            self.first.get_or_insert((line, chunk.invalid()[0]));
            text.push(char::REPLACEMENT_CHARACTER);
        }
        text
    }

    fn count(&mut self, text: &str) {
        if !text.is_ascii() {
            self.characters += text.chars().filter(|c| !c.is_ascii()).count();
        }
    }

    /// A remark on a file's damage, if there is any.
    pub fn remark(self) -> Result<Option<String>, ForeignEncoding> {
        let Damage { strays, cut, characters, values, first } = self;
        let Some((line, byte)) = first else { return Ok(None) };
        if strays >= FEW && values.len() > 1 && strays >= 10 * (cut + characters) {
            return Err(ForeignEncoding { line, byte, strays });
        }
        let (broken, place, count) = match strays + cut {
            1 => ("1 sequence of bytes is".to_owned(), "", "it counts"),
            several => (format!("{several} sequences of bytes are"), "the first ", "they count"),
        };
        Ok(Some(format!(
            "{broken} no UTF-8, {place}on line {line}: {count} as broken text; if the file is in another encoding, \
             convert it first"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a file, and whether it is one.
    fn replace_damage(bytes: &[u8]) -> Result<(String, Option<String>), ForeignEncoding> {
        let mut damage = Damage::default();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').zip(1..);
        let text = lines.map(|(bytes, line)| damage.replace(line, bytes.to_vec())).collect();
        Ok((text, damage.remark()?))
    }

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
