//! Words for the comparison of near-copies: folded to lower case, every number to one word, everything between words left
//! out.
//!
//! A word is a maximal run of letters; in scripts without spaces between words, one character. What differs between near-
//! copies alone (counters, dates, punctuation, spacing, emphasis) makes no difference here.

use super::ngrams::mix;
use super::words::is_unspaced;

/// A word, or a stretch between words that is a flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Hash of the folded word; 0 for a flood between words.
    pub hash: u64,
    /// Kind of unit.
    pub kind: Kind,
    /// Length in characters up to that of the longest word, a separator included; 1 for a number, 2 in scripts whose characters are words.
    pub weight: u32,
    /// Characters beyond the length that a word, a number or what is between two words has in any text.
    pub excess: u32,
    /// Byte offset at which it begins.
    pub start: usize,
    /// Byte offset at which it ends.
    pub end: usize,
}

/// Kind of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Letters.
    Word,
    /// Digits.
    Number,
    /// One character of a script without spaces.
    Character,
    /// Neither letters nor digits.
    Between,
}

/// Longest word and longest number without excess.
const LONGEST_WORD: u32 = 200;
/// Longest stretch without letters and digits that is no flood: tables, rules, drawings.
const LONGEST_GAP: u32 = 1000;
/// Weight of emoji and other pictures, which no table is made of.
const PICTURE: u32 = 4;
/// The hash of every number.
const NUMBER: u64 = 1;

/// Appends the units of a text.
pub fn fold(text: &str, units: &mut Vec<Unit>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            byte if byte.is_ascii_alphabetic() => at = word(text, at, units),
            byte if byte.is_ascii_digit() => at = number(text, at, units),
            0..0x80 => at = gap(text, at, units),
            _ => {
                let c = text[at..].chars().next().unwrap_or(' ');
                at = match c {
                    _ if is_unspaced(c) => {
                        at += c.len_utf8();
                        let hash = mix(2, u64::from(c));
                        units.push(Unit { hash, kind: Kind::Character, weight: 2, excess: 0, start, end: at });
                        at
                    }
                    _ if c.is_alphabetic() => word(text, at, units),
                    _ if c.is_numeric() => number(text, at, units),
                    _ => gap(text, at, units),
                };
            }
        }
    }
}

/// A run of letters and the marks on them.
fn word(text: &str, start: usize, units: &mut Vec<Unit>) -> usize {
    let bytes = text.as_bytes();
    let mut end = start;
    while end < bytes.len() && bytes[end].is_ascii_alphabetic() {
        end += 1;
    }
    let mut length = end - start;
    let mut hash = ascii(&bytes[start..end]);
    let is_letter = |c: char| (c.is_alphabetic() || matches!(c as u32, 0x300..0x370)) && !is_unspaced(c);
    if !bytes.get(end).is_none_or(u8::is_ascii) && text[end..].starts_with(is_letter) {
        (hash, length, end) = (0, 0, start);
        for c in text[start..].chars().take_while(|&c| is_letter(c)) {
            hash = mix(hash, u64::from(lower(c)));
            length += 1;
            end += c.len_utf8();
        }
    }
    let length = u32::try_from(length).unwrap_or(u32::MAX - 1);
    let excess = length.saturating_sub(LONGEST_WORD);
    units.push(Unit { hash, kind: Kind::Word, weight: length.min(LONGEST_WORD) + 1, excess, start, end });
    end
}

/// The hash of letters of ASCII in any case.
fn ascii(letters: &[u8]) -> u64 {
    let fold = |eight: u64| eight | 0x2020_2020_2020_2020;
    let (whole, rest) = letters.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let first = whole.iter().fold(letters.len() as u64, |hash, eight| mix(hash, fold(u64::from_le_bytes(*eight))));
    mix(first, fold(u64::from_le_bytes(last)))
}

fn lower(c: char) -> char {
    match c as u32 {
        code @ 0x410..0x430 => char::from_u32(code + 0x20).unwrap_or(c), // Cyrillic, ahead of the table
        0x430..0x450 => c,
        _ => c.to_lowercase().next().unwrap_or(c),
    }
}

fn number(text: &str, start: usize, units: &mut Vec<Unit>) -> usize {
    let digits = text[start..].chars().take_while(|c| c.is_numeric() && !is_unspaced(*c));
    let (count, length) = digits.fold((0u32, 0), |(count, length), c| (count.saturating_add(1), length + c.len_utf8()));
    let excess = count.saturating_sub(LONGEST_WORD);
    let end = start + length;
    units.push(Unit { hash: NUMBER, kind: Kind::Number, weight: 1, excess, start, end });
    end
}

/// The characters between words; a unit only if they are a flood.
fn gap(text: &str, start: usize, units: &mut Vec<Unit>) -> usize {
    let bytes = text.as_bytes();
    let (mut end, mut weight) = (start, 0u32);
    while end < bytes.len() {
        if bytes[end].is_ascii() {
            if bytes[end].is_ascii_alphanumeric() {
                break;
            }
            end += 1;
            weight = weight.saturating_add(1);
        } else {
            let c = text[end..].chars().next().unwrap_or(' ');
            if is_unspaced(c) || c.is_alphanumeric() {
                break;
            }
            end += c.len_utf8();
            weight = weight.saturating_add(if c as u32 >= 0x2600 { PICTURE } else { 1 });
        }
    }
    let excess = weight.saturating_sub(LONGEST_GAP);
    if excess > 0 {
        units.push(Unit { hash: 0, kind: Kind::Between, weight: 0, excess, start, end });
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashes(text: &str) -> Vec<u64> {
        let mut units = Vec::new();
        fold(text, &mut units);
        units.iter().map(|unit| unit.hash).collect()
    }

    #[test]
    fn near_copies_are_alike() {
        for (one, other) in [
            ("Step 12 of the plan", "step 7, of -- THE plan!!!"),
            ("[12:03:07] retry", "(09:59:00) Retry…"),
            ("Привет, МИР", "привет мир"),
            ("第1步，好", "第 23 步好"),
            ("E\u{301}TE\u{301} Straße", "e\u{301}te\u{301} straße"),
        ] {
            let (one, other) = (hashes(one), hashes(other));
            assert_eq!(one[..other.len()], other[..], "{other:?}");
        }
        assert_ne!(hashes("abcdefgh"), hashes("abcdefgi"));
        assert_ne!(hashes("a"), hashes("aa"));
        assert_eq!(hashes("?! … — "), Vec::<u64>::new());
    }

    #[test]
    fn floods_have_excess() {
        let excess = |text: &str| {
            let mut units = Vec::new();
            fold(text, &mut units);
            units.iter().map(|unit| unit.excess).sum::<u32>()
        };
        assert_eq!(excess(&"7".repeat(300)), 100);
        assert_eq!(excess(&"o".repeat(250)), 50);
        assert_eq!(excess(&format!("a{}b", "\n".repeat(3000))), 2000);
        assert_eq!(excess(&"💖".repeat(300)), 200);
        assert_eq!(excess(&format!("Title\n{}\ntext", "=".repeat(150))), 0);
    }

    proptest! {
        #[test]
        fn units_are_ranges_in_order(text in "\\PC{0,60}") {
            let mut units = Vec::new();
            fold(&text, &mut units);
            let mut last = 0;
            for unit in units {
                prop_assert!(unit.start >= last && unit.end > unit.start);
                prop_assert!(text.is_char_boundary(unit.start) && text.is_char_boundary(unit.end));
                last = unit.end;
            }
        }
    }
}
