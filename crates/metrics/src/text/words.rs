//! Words, for metrics that compare texts whatever tokenizer wrote them.
//!
//! A word is a maximal run of letters and digits; white space separates; every other character (punctuation,
//! symbols, emoji) is a word by itself, and so is every character of a script that is written without spaces. One
//! pass, no allocation beyond the output.

use std::ops::Range;

use super::ascii::end_of_alphanumerics;
use super::ngrams::mix;

/// Class of a character in word splitting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Letter,
    Alone,
}

const ASCII: [Class; 128] = {
    let mut table = [Class::Alone; 128];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        if c.is_ascii_alphanumeric() {
            table[byte] = Class::Letter;
        } else if c.is_ascii_whitespace() || c == 0x0b || c < 0x20 {
            table[byte] = Class::Space;
        }
        byte += 1;
    }
    table
};

/// The class of a character beyond ASCII.
fn class(c: char) -> Class {
    match c as u32 {
        0x400..0x482 | 0x48a..0x530 => Class::Letter, // Cyrillic, ahead of the slow test
        // Indic scripts: their vowel signs are marks, which `is_alphanumeric` covers only in part
        0x0900..0x0964 | 0x0966..0x0e00 => Class::Letter,
        _ if is_unspaced(c) || is_punctuation(c) => Class::Alone,
        _ if c.is_alphanumeric() => Class::Letter,
        _ if c.is_whitespace() => Class::Space,
        // Combining marks belong to the letter before them; `is_alphanumeric` covers only some.
        0x0300..0x0370 | 0x200c..0x200e => Class::Letter,
        _ => Class::Alone,
    }
}

/// True for characters of scripts without spaces between words: kana, Han, Thai, Lao, Myanmar, Khmer.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(c as u32,
        0x0e00..0x0f00 | 0x1000..0x10a0 | 0x1780..0x1800 | 0x3040..0x3100 | 0x3400..0xa000 | 0xf900..0xfb00 | 0x20000..0x32000)
}

/// True for dashes and quotation marks beyond ASCII, ahead of the slow tests for what they are not.
pub(super) fn is_punctuation(c: char) -> bool {
    matches!(c as u32, 0xab | 0xbb | 0x2010..0x2028)
}

/// Appends a 64-bit hash of every word to `words`, in order. Two different words collide with probability 2⁻⁶⁴.
pub fn hash_words(text: &str, words: &mut Vec<u64>) {
    hash_first_words(text, usize::MAX, words);
}

/// The same for the first `limit` words alone.
pub fn hash_first_words(text: &str, limit: usize, words: &mut Vec<u64>) {
    let limit = words.len().saturating_add(limit);
    let bytes = text.as_bytes();
    let mut word_start: Option<usize> = None;
    let mut at = 0;
    while at < bytes.len() && words.len() < limit {
        let (class, width) = match bytes[at] {
            byte @ 0..0x80 => (ASCII[usize::from(byte)], 1),
            // `at` is always on a character boundary
            _ => text[at..].chars().next().map_or((Class::Space, 1), |c| (class(c), c.len_utf8())),
        };
        match class {
            Class::Letter => {
                word_start.get_or_insert(at);
                at = end_of_alphanumerics(bytes, at + width);
                // Cyrillic letters from U+0400 to U+047F
                while let Some(0xd0..=0xd1) = bytes.get(at) {
                    at = end_of_alphanumerics(bytes, at + 2);
                }
                continue;
            }
            Class::Space | Class::Alone => {
                if let Some(start) = word_start.take() {
                    words.push(hash(bytes, start..at));
                }
                if class == Class::Alone {
                    words.push(hash(bytes, at..at + width));
                }
            }
        }
        at += width;
    }
    if let Some(start) = word_start {
        words.push(hash(bytes, start..bytes.len()));
    }
    // A word and the punctuation after it come together.
    words.truncate(limit);
}

/// The hash of one word of a text. Most are read as one number of eight bytes, what follows the word masked out: their
/// code path is the same for all lengths then.
#[inline]
fn hash(text: &[u8], word: Range<usize>) -> u64 {
    let len = word.len();
    if let (1..=8, Some(eight)) = (len, text[word.start..].first_chunk()) {
        return mix(len as u64, u64::from_le_bytes(*eight) & (u64::MAX >> (64 - 8 * len)));
    }
    let bytes = &text[word];
    let (whole, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let words = whole.iter().chain((!rest.is_empty()).then_some(&last));
    words.fold(len as u64, |state, word| mix(state, u64::from_le_bytes(*word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<u64> {
        let mut words = Vec::new();
        hash_words(text, &mut words);
        words
    }

    #[test]
    fn splits_as_documented() {
        for (text, expected) in [
            ("", vec![]),
            (" \n\t\u{a0}\0", vec![]),
            ("Hello, world!", vec!["Hello", ",", "world", "!"]),
            ("don't", vec!["don", "'", "t"]),
            ("abcdefghi abcdefghj", vec!["abcdefghi", "abcdefghj"]),
            ("Съешь ещё, ёж", vec!["Съешь", "ещё", ",", "ёж"]),
            ("日本語です", vec!["日", "本", "語", "で", "す"]),
            ("नमस्ते 💖💖", vec!["नमस्ते", "💖", "💖"]),
            ("Ça va «naïve» — Ωμέγα", vec!["Ça", "va", "«", "naïve", "»", "—", "Ωμέγα"]),
            ("e\u{301}te\u{301}", vec!["e\u{301}te\u{301}"]),
        ] {
            let expected: Vec<u64> = expected.iter().map(|word| hash(word.as_bytes(), 0..word.len())).collect();
            assert_eq!(words(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_first_words_are_the_first_of_all() {
        let text = "One, two; three! 日本 four.";
        let all = words(text);
        for limit in 0..=all.len() + 1 {
            let mut first = vec![7];
            hash_first_words(text, limit, &mut first);
            assert_eq!(first[1..], all[..limit.min(all.len())], "{limit}");
        }
    }

    #[test]
    fn a_word_hashes_alike_wherever_it_stands() {
        for word in ["a", "word", "eightlet", "nineletters", "aVeryLongWordOfTwentyFour"] {
            let hashes = words(&format!("{word} and {word}"));
            assert_eq!(hashes.first(), hashes.last(), "{word}");
        }
    }

    #[test]
    fn different_words_have_different_hashes() {
        let list: Vec<String> = (0..20_000).map(|i| format!("w{i}")).collect();
        let mut hashes = words(&list.join(" "));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), list.len());
    }
}
