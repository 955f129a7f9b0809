//! The writing system of each character (Unicode Standard Annex #24).

use std::sync::OnceLock;

use unicode_script::{Script, UnicodeScript};

/// A set of scripts. Letters of no particular script (digits, punctuation, combining marks) belong to none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scripts(u64);

/// Scripts with a bit of their own; all others share one.
const KNOWN: [Script; 32] = [
    Script::Latin,
    Script::Cyrillic,
    Script::Greek,
    Script::Han,
    Script::Hiragana,
    Script::Katakana,
    Script::Hangul,
    Script::Arabic,
    Script::Hebrew,
    Script::Devanagari,
    Script::Bengali,
    Script::Tamil,
    Script::Telugu,
    Script::Gujarati,
    Script::Gurmukhi,
    Script::Kannada,
    Script::Malayalam,
    Script::Oriya,
    Script::Sinhala,
    Script::Thai,
    Script::Lao,
    Script::Khmer,
    Script::Myanmar,
    Script::Tibetan,
    Script::Georgian,
    Script::Armenian,
    Script::Ethiopic,
    Script::Mongolian,
    Script::Thaana,
    Script::Syriac,
    Script::Cherokee,
    Script::Bopomofo,
];
const OTHER: u8 = KNOWN.len() as u8;
const NONE: u8 = u8::MAX;

impl Scripts {
    /// Latin alone.
    pub const LATIN: Scripts = Scripts(1);
    /// Greek alone: letters that mathematics uses in every language.
    pub const GREEK: Scripts = Scripts(1 << 2);
    const JAPANESE: Scripts = Scripts(1 << 3 | 1 << 4 | 1 << 5);

    /// The scripts that a text uses.
    pub fn of(text: &str) -> Scripts {
        if text.is_ascii() {
            return if text.bytes().any(|byte| byte.is_ascii_alphabetic()) {
                Scripts::LATIN
            } else {
                Scripts::default()
            };
        }
        text.chars().filter_map(bit).fold(Scripts::default(), |set, bit| Scripts(set.0 | 1 << bit))
    }

    /// The scripts that a language (BCP 47: `ru`, `sr-Latn`, `zh-TW`) is written in; Latin is part of all of them,
    /// an unknown language has nothing else.
    pub fn of_language(tag: &str) -> Scripts {
        let language = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let scripts: &[Script] = match language.as_str() {
            "ru" | "uk" | "be" | "bg" | "sr" | "mk" | "kk" | "ky" | "tg" | "tt" | "ba" | "cv" | "mn" | "os" => {
                &[Script::Cyrillic]
            }
            "el" => &[Script::Greek],
            "zh" | "yue" => &[Script::Han, Script::Bopomofo],
            "ja" => &[Script::Han, Script::Hiragana, Script::Katakana],
            "ko" => &[Script::Hangul, Script::Han],
            "ar" | "fa" | "ur" | "ps" | "ug" | "sd" | "ckb" => &[Script::Arabic],
            "he" | "yi" => &[Script::Hebrew],
            "hi" | "mr" | "ne" | "sa" => &[Script::Devanagari],
            "bn" | "as" => &[Script::Bengali],
            "ta" => &[Script::Tamil],
            "te" => &[Script::Telugu],
            "gu" => &[Script::Gujarati],
            "pa" => &[Script::Gurmukhi],
            "kn" => &[Script::Kannada],
            "ml" => &[Script::Malayalam],
            "or" => &[Script::Oriya],
            "si" => &[Script::Sinhala],
            "th" => &[Script::Thai],
            "lo" => &[Script::Lao],
            "km" => &[Script::Khmer],
            "my" => &[Script::Myanmar],
            "bo" => &[Script::Tibetan],
            "ka" => &[Script::Georgian],
            "hy" => &[Script::Armenian],
            "am" | "ti" => &[Script::Ethiopic],
            "dv" => &[Script::Thaana],
            _ => &[],
        };
        let bits = KNOWN.iter().enumerate().filter(|(_, known)| scripts.contains(known));
        bits.fold(Scripts::LATIN, |set, (bit, _)| Scripts(set.0 | 1 << bit))
    }

    /// Both sets together. Han and the two kana come as one: Japanese mixes them.
    #[must_use]
    pub fn union(self, other: Scripts) -> Scripts {
        let both = self.0 | other.0;
        Scripts(if both & (1 << 4 | 1 << 5) != 0 { both | Self::JAPANESE.0 } else { both })
    }
}

/// Letters of a text: how many there are, and how many are in a script outside `allowed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letters {
    /// Characters that belong to a script.
    pub total: usize,
    /// Those among them whose script is not allowed.
    pub foreign: usize,
}

/// Counts the letters of `text`.
pub fn count_letters(text: &str, allowed: Scripts) -> Letters {
    let mut letters = Letters { total: 0, foreign: 0 };
    let latin_is_foreign = usize::from(allowed.0 & Scripts::LATIN.0 == 0);
    let table = table();
    let mut rest = text;
    loop {
        // Runs of ASCII in blocks, which compile to vector instructions; most text is nothing else.
        while let Some((block, _)) = rest.as_bytes().split_at_checked(BLOCK).filter(|(block, _)| block.is_ascii()) {
            let latin: u8 = block.iter().map(|byte| u8::from(byte.is_ascii_alphabetic())).sum();
            letters.total += usize::from(latin);
            letters.foreign += usize::from(latin) * latin_is_foreign;
            rest = &rest[BLOCK..];
        }
        // Then one block of anything, character by character.
        let end = (BLOCK.min(rest.len())..).find(|&at| rest.is_char_boundary(at)).unwrap_or(0);
        if end == 0 {
            return letters;
        }
        for c in rest[..end].chars() {
            let bit = table.get(c as usize).copied().unwrap_or_else(|| look_up(c));
            if bit != NONE {
                letters.total += 1;
                letters.foreign += usize::from(allowed.0 >> bit & 1 == 0);
            }
        }
        rest = &rest[end..];
    }
}

const BLOCK: usize = 32;

fn bit(c: char) -> Option<u8> {
    let bit = table().get(c as usize).copied().unwrap_or_else(|| look_up(c));
    (bit != NONE).then_some(bit)
}

/// The basic multilingual plane, looked up once: the crate's own binary search per character is the slower half of
/// a metric otherwise.
fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| (0..0x10000).map(|code| char::from_u32(code).map_or(NONE, look_up)).collect())
}

fn look_up(c: char) -> u8 {
    match c.script() {
        Script::Common | Script::Inherited | Script::Unknown => NONE,
        _ if !c.is_alphabetic() => NONE, // Braille patterns, box drawings: symbols, whatever their script
        script => KNOWN.iter().position(|&known| known == script).map_or(OTHER, |bit| bit as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_by_script() {
        let russian = Scripts::LATIN.union(Scripts::of("Привет"));
        assert_eq!(count_letters("Привет, world 12 — 你好!", russian), Letters { total: 13, foreign: 2 });
        let long = format!("{}Привет{}你好", "plain text ".repeat(50), "x".repeat(1000));
        assert_eq!(count_letters(&long, russian), Letters { total: 450 + 6 + 1000 + 2, foreign: 2 });
        assert_eq!(count_letters(&long, Scripts::of("Привет")), Letters { total: 1458, foreign: 1452 });
        assert_eq!(count_letters("", russian), Letters { total: 0, foreign: 0 });
        assert_eq!(count_letters("⠀⠀ \0 123", russian), Letters { total: 0, foreign: 0 });
    }

    #[test]
    fn every_language_admits_its_own_writing_and_no_others() {
        let writings: [(&[&str], &str); 26] = [
            (&["ru", "uk", "be", "bg", "sr", "mk", "kk", "ky", "tg", "tt", "ba", "cv", "mn", "os"], "русский"),
            (&["el"], "ελληνικά"),
            (&["zh", "yue"], "中文 ㄅㄆㄇ"),
            (&["ja"], "日本語 ひらがな カタカナ"),
            (&["ko"], "한국어 漢字"),
            (&["ar", "fa", "ur", "ps", "ug", "sd", "ckb"], "العربية"),
            (&["he", "yi"], "עברית"),
            (&["hi", "mr", "ne", "sa"], "हिन्दी"),
            (&["bn", "as"], "বাংলা"),
            (&["ta"], "தமிழ்"),
            (&["te"], "తెలుగు"),
            (&["gu"], "ગુજરાતી"),
            (&["pa"], "ਪੰਜਾਬੀ"),
            (&["kn"], "ಕನ್ನಡ"),
            (&["ml"], "മലയാളം"),
            (&["or"], "ଓଡ଼ିଆ"),
            (&["si"], "සිංහල"),
            (&["th"], "ไทย"),
            (&["lo"], "ລາວ"),
            (&["km"], "ខ្មែរ"),
            (&["my"], "မြန်မာ"),
            (&["bo"], "བོད་སྐད་"),
            (&["ka"], "ქართული"),
            (&["hy"], "հայերեն"),
            (&["am", "ti"], "አማርኛ"),
            (&["dv"], "ދިވެހި"),
        ];
        for (languages, own) in writings {
            for language in languages {
                for (_, text) in writings {
                    let letters = count_letters(text, Scripts::of_language(language));
                    assert_eq!(letters.foreign == 0, text == own, "{language}: {text}");
                }
            }
        }
    }

    #[test]
    fn languages_bring_their_scripts() {
        for (language, text) in [
            ("ru", "да"),
            ("ja-JP", "日本のカタカナ"),
            ("zh_TW", "漢字"),
            ("el", "ναι"),
            ("xx", "plain"),
            ("ko", "한국"),
        ] {
            assert_eq!(count_letters(text, Scripts::of_language(language)).foreign, 0, "{language}");
        }
        assert_eq!(count_letters("да", Scripts::of_language("en")).foreign, 2);
        for kana in ["ひらがな", "カタカナ"] {
            let allowed = Scripts::of(kana).union(Scripts::default());
            assert_eq!(count_letters("ひらがな カタカナ 漢字", allowed).foreign, 0, "{kana}");
        }
        // A Japanese prompt in kana alone admits an answer with Han.
        assert_eq!(count_letters("日本", Scripts::LATIN.union(Scripts::of("ひらがな"))).foreign, 0);
    }
}
