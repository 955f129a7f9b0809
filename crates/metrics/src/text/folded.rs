//! Words for the comparison of near-copies: folded to lower case, every number to one word, everything between words left
//! out.
//!
//! A word is a maximal run of letters; in scripts without spaces between words, one character; in long runs with capitals in
//! their middle (`#GrandOpeningOfTheYear`), what begins with one. What differs between near-copies alone (counters, dates,
//! punctuation, spacing, emphasis) makes no difference here.

use std::ops::Range;

use super::ascii::{self, CASE};
use super::ngrams::mix;
use super::words::{is_punctuation, is_unspaced};

/// A word, or a stretch between words that is a flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Hash of the folded word; 0 for a flood between words.
    pub hash: u64,
    /// Byte offset at which it begins.
    pub start: u32,
    /// Byte offset at which it ends.
    pub end: u32,
    /// Characters beyond the length that a word, a number or what is between two words has in any text.
    pub excess: u32,
    /// Length in characters up to that of the longest word, a separator included; 1 for a number, 2 in scripts whose characters are words.
    pub weight: u8,
    /// Kind of unit.
    pub kind: Kind,
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
const LONGEST_WORD: usize = 200;
/// Shortest run of letters that is looked through for words run together.
const COMPOUND: usize = 20;
/// Longest stretch without letters and digits that is no flood: tables, rules, drawings.
const LONGEST_GAP: u32 = 1000;
/// Weight of emoji and other pictures, which no table is made of.
const PICTURE: u32 = 4;
/// The hash of every number.
const NUMBER: u64 = 1;

/// Appends the units of a text of less than 4 GiB; of a longer one, those of its beginning.
pub fn fold(text: &str, units: &mut Vec<Unit>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() && u32::try_from(at).is_ok() {
        at = match bytes[at] {
            byte if byte.is_ascii_alphabetic() => word(text, at, units),
            byte if byte.is_ascii_digit() => number(text, at, units),
            0..0x80 => gap(text, at, units),
            0xd0..=0xd1 => word(text, at, units), // Cyrillic, U+0400 to U+047F
            _ => match text[at..].chars().next().unwrap_or(' ') {
                c if is_punctuation(c) => gap(text, at, units),
                c if is_unspaced(c) => {
                    let end = at + c.len_utf8();
                    units.push(Unit::new(mix(2, u64::from(c)), Kind::Character, 2, 0, at..end));
                    end
                }
                c if c.is_alphabetic() => word(text, at, units),
                c if c.is_numeric() => number(text, at, units),
                _ => gap(text, at, units),
            },
        };
    }
}

impl Unit {
    fn new(hash: u64, kind: Kind, weight: usize, excess: u32, range: Range<usize>) -> Unit {
        let [start, end] = [range.start, range.end].map(|at| u32::try_from(at).unwrap_or(u32::MAX));
        Unit { hash, start, end, excess, weight: u8::try_from(weight).unwrap_or(u8::MAX), kind }
    }

    /// A word of `length` characters; `separated` from the next one.
    fn word(Letters { hash, length, .. }: Letters, separated: bool, range: Range<usize>) -> Unit {
        let excess = u32::try_from(length.saturating_sub(LONGEST_WORD)).unwrap_or(u32::MAX);
        Unit::new(hash, Kind::Word, length.min(LONGEST_WORD) + usize::from(separated), excess, range)
    }
}

/// A run of letters and the marks on them.
fn word(text: &str, start: usize, units: &mut Vec<Unit>) -> usize {
    let letters = Letters::read(text, start);
    let end = letters.end;
    if letters.length < COMPOUND || !compound(&text[..end], start, units) {
        units.push(Unit::word(letters, true, start..end));
    }
    end
}

/// The parts of a long word that a capital begins in its middle; false if there are none.
fn compound(text: &str, start: usize, units: &mut Vec<Unit>) -> bool {
    let (mut begin, mut after_small) = (start, false);
    for (at, c) in text[start..].char_indices().map(|(at, c)| (start + at, c)) {
        let capital = c.is_uppercase();
        if capital && after_small {
            units.push(Unit::word(Letters::read(&text[..at], begin), false, begin..at));
            begin = at;
        }
        after_small = !capital;
    }
    if begin > start {
        units.push(Unit::word(Letters::read(text, begin), false, begin..text.len()));
    }
    begin > start
}

/// The letters of a word.
struct Letters {
    /// Hash of the letters in lower case.
    hash: u64,
    /// Characters.
    length: usize,
    /// Byte offset behind the last one.
    end: usize,
}

impl Letters {
    /// The run of letters at `start`.
    fn read(text: &str, start: usize) -> Letters {
        let letters = Letters::read_ascii(text.as_bytes(), start);
        if text.as_bytes().get(letters.end).is_none_or(u8::is_ascii) {
            return letters;
        }
        let wide = Letters::read_wide(text, start);
        // A sign behind letters of ASCII.
        if wide.end == letters.end { letters } else { wide }
    }

    /// Letters of ASCII, eight at a time: most words are one number, with what follows them masked out.
    fn read_ascii(bytes: &[u8], start: usize) -> Letters {
        let (mut hash, mut end) = (0, start);
        loop {
            let eight = ascii::eight(bytes, end);
            let count = ascii::letters(eight);
            let letters = eight | CASE;
            end += count;
            if count < 8 {
                let last = letters & ((1u64 << (8 * count)) - 1);
                return Letters { hash: mix(mix(hash, last), (end - start) as u64), length: end - start, end };
            }
            hash = mix(hash, letters);
        }
    }

    /// The same, character by character, three of which fill a number that is hashed at once.
    fn read_wide(text: &str, start: usize) -> Letters {
        let bytes = text.as_bytes();
        let (mut end, mut length) = (start, 0);
        let (mut hash, mut three) = (0, 0);
        while let Some(&byte) = bytes.get(end) {
            let (c, width) = match (byte, bytes.get(end + 1)) {
                (0xd0..=0xd1, Some(&next)) => (cyrillic_in_lower_case(byte, next), 2),
                _ => match text[end..].chars().next() {
                    Some(c) if is_letter(c) => (c.to_lowercase().next().unwrap_or(c).into(), c.len_utf8()),
                    _ => break,
                },
            };
            three = three << 21 | u64::from(c);
            length += 1;
            end += width;
            if length % 3 == 0 {
                hash = mix(hash, three);
                three = 0;
            }
        }
        Letters { hash: mix(mix(hash, three), length as u64), length, end }
    }
}

fn is_letter(c: char) -> bool {
    !is_punctuation(c) && (c.is_alphabetic() || matches!(c as u32, 0x300..0x370)) && !is_unspaced(c)
}

/// The code of a letter between U+0400 and U+047F in lower case, from its two bytes.
fn cyrillic_in_lower_case(first: u8, second: u8) -> u32 {
    match u32::from(first & 0x1f) << 6 | u32::from(second & 0x3f) {
        code @ 0x400..0x410 => code + 0x50,
        code @ 0x410..0x430 => code + 0x20,
        code @ 0x460.. => code | 1,
        code => code,
    }
}

fn number(text: &str, start: usize, units: &mut Vec<Unit>) -> usize {
    let bytes = text.as_bytes();
    let mut end = start + bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut digits = end - start;
    for c in text[end..].chars().take_while(|&c| c.is_numeric() && !is_unspaced(c)) {
        end += c.len_utf8();
        digits += 1;
    }
    let excess = u32::try_from(digits.saturating_sub(LONGEST_WORD)).unwrap_or(u32::MAX);
    units.push(Unit::new(NUMBER, Kind::Number, 1, excess, start..end));
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
            if !is_punctuation(c) && (is_unspaced(c) || c.is_alphanumeric()) {
                break;
            }
            end += c.len_utf8();
            weight = weight.saturating_add(if c as u32 >= 0x2600 { PICTURE } else { 1 });
        }
    }
    let excess = weight.saturating_sub(LONGEST_GAP);
    if excess > 0 {
        units.push(Unit::new(0, Kind::Between, 0, excess, start..end));
    }
    end
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        assert_ne!(hashes("abcdefghi"), hashes("abcdefgh"));
        assert_ne!(hashes("где"), hashes("гдеж"));
        assert_eq!(hashes("?! … — "), Vec::<u64>::new());
    }

    /// A word is the same wherever it stands, at the end of the text too, where its bytes are read otherwise.
    #[test]
    fn a_word_is_the_same_everywhere_and_in_any_case() {
        for word in ["a", "cat", "eightlet", "nineletters", "Котёнок", "ЁЖИК", "naïve", "ѠѢѰ"] {
            let text = format!("{word} and {}, {} {}", word.to_uppercase(), word.to_lowercase(), word);
            let hashes = hashes(&text);
            assert!(hashes.iter().enumerate().all(|(at, hash)| at == 1 || *hash == hashes[0]), "{word}");
        }
    }

    /// Unicode's lower case, also where letters are read by their bytes.
    #[test]
    fn every_letter_counts_and_only_its_case_does_not() {
        let of = |word: &[char]| match hashes(&word.iter().collect::<String>())[..] {
            [hash] => hash,
            ref hashes => panic!("{word:?}: {hashes:?}"),
        };
        for (word, block) in [("lettered", 'A'..='z'), ("тестовый", '\u{400}'..='\u{47f}'), ("naïvetés", 'À'..='þ')]
        {
            let (mut hashed, mut words) = (BTreeSet::new(), BTreeSet::new());
            for (place, letter) in (0..8).flat_map(|place| block.clone().map(move |letter| (place, letter))) {
                let mut word: Vec<char> = word.chars().collect();
                word[place] = letter;
                let Some(small) = letter.to_lowercase().next().filter(|_| letter.is_alphabetic()) else { continue };
                let as_written = of(&word);
                word[place] = small;
                assert_eq!(as_written, of(&word), "{letter} at {place}");
                hashed.insert(as_written);
                words.insert(word);
            }
            assert_eq!(hashed.len(), words.len(), "{word}");
        }
    }

    #[test]
    fn what_is_between_words_ends_at_a_letter_of_any_script() {
        let words = ["été", "да", "日", "ñ"].map(hashes).concat();
        assert_eq!(words.len(), 4);
        assert_eq!(hashes("— été, да: 日 («ñ»)"), words);
    }

    #[test]
    fn words_run_together_come_apart() {
        let parts = hashes("#GrandOpeningOfTheYear2031");
        assert_eq!(parts, hashes("grand opening of the year 7"));
        assert_eq!(hashes("ОткрытиеГлавногоМагазина").len(), 3);
        for whole in ["getUserName", "internationalization", "INTERNATIONALIZATION", "McDonald"] {
            assert_eq!(hashes(whole).len(), 1, "{whole}");
        }
        assert_eq!(hashes("TenLettersTenLetters").len(), 4);
        assert_eq!(hashes("NineLettrTenLetters").len(), 1, "shorter than a compound");
    }

    #[test]
    fn floods_have_excess() {
        let excess = |text: &str| {
            let mut units = Vec::new();
            fold(text, &mut units);
            units.iter().map(|unit| unit.excess).sum::<u32>()
        };
        assert_eq!(excess(&"7".repeat(300)), 100);
        assert_eq!(excess(&"٣".repeat(300)), 100);
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
                prop_assert!([unit.start, unit.end].iter().all(|&at| text.is_char_boundary(at as usize)));
                last = unit.end;
            }
        }
    }
}
