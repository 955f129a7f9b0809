//! Languages that a prompt asks for, by their names.

use super::scripts::Scripts;

/// Beginnings of names of languages, countries and scripts, in several languages, and the language whose scripts an
/// answer may then use (BCP 47).
const NAMES: &[(&str, &[&str])] = &[
    (
        "ru",
        &[
            "russia",
            "cyrillic",
            "soviet",
            "русск",
            "росси",
            "кирилл",
            "ruso",
            "rusa",
            "russe",
            "russisch",
            "俄语",
            "ロシア",
        ],
    ),
    (
        "uk",
        &[
            "ukrain",
            "bulgar",
            "belarus",
            "serbia",
            "macedon",
            "kazakh",
            "mongol",
            "українськ",
            "украин",
            "болгар",
            "сербск",
            "казах",
        ],
    ),
    (
        "ja",
        &[
            "japan",
            "japon",
            "japón",
            "kanji",
            "hiragana",
            "katakana",
            "kana",
            "haiku",
            "anime",
            "manga",
            "япон",
            "кандзи",
            "хирагана",
            "日本",
        ],
    ),
    (
        "zh",
        &[
            "chinese",
            "china",
            "mandarin",
            "cantonese",
            "hanzi",
            "pinyin",
            "taiwan",
            "hong kong",
            "chino",
            "chinois",
            "chinesisch",
            "китай",
            "中文",
            "汉",
            "漢",
            "中国",
        ],
    ),
    ("ko", &["korea", "hangul", "coreano", "coréen", "корей", "한국", "한글"]),
    (
        "ar",
        &[
            "arab",
            "persia",
            "farsi",
            "iran",
            "urdu",
            "pakistan",
            "pashto",
            "afghan",
            "quran",
            "qur'an",
            "koran",
            "islam",
            "árabe",
            "арабск",
            "араб",
            "персид",
            "фарси",
            "иран",
            "коран",
            "العربية",
            "فارسی",
        ],
    ),
    ("he", &["hebrew", "israel", "jewish", "yiddish", "torah", "иврит", "еврей", "עברית"]),
    (
        "hi",
        &["hindi", "india", "sanskrit", "marathi", "nepal", "devanagari", "yoga", "хинди", "инди", "санскрит", "हिन्दी"],
    ),
    ("bn", &["bengal", "bangla", "assam", "india", "бенгал"]),
    ("ta", &["tamil", "india", "sri lanka", "тамил"]),
    ("te", &["telugu", "india"]),
    ("gu", &["gujarat", "india"]),
    ("pa", &["punjab", "india", "sikh"]),
    ("kn", &["kannada", "india"]),
    ("ml", &["malayalam", "kerala", "india"]),
    ("or", &["odia", "oriya"]),
    ("si", &["sinhal", "sri lanka"]),
    ("th", &["thai", "тайск", "таиланд", "ไทย"]),
    ("lo", &["lao"]),
    ("km", &["khmer", "cambod"]),
    ("my", &["burm", "myanmar"]),
    ("bo", &["tibet", "тибет"]),
    ("ka", &["georgia", "грузин"]),
    ("hy", &["armenia", "армян"]),
    ("am", &["amharic", "ethiop", "tigrinya"]),
];

/// Words of prompts whose answers may be in any script.
const ANY: &[&str] = &[
    "translat",
    "transliterat",
    "traduc",
    "tradui",
    "traduz",
    "übersetz",
    "перевод",
    "перевед",
    "перевест",
    "перевест",
    "翻译",
    "翻譯",
    "翻訳",
    "번역",
    "ترجم",
    "अनुवाद",
    "original title",
    "original name",
    "in the original",
    "native script",
    "different language",
    "other language",
    "foreign language",
    "various language",
    "multiple language",
    "every language",
    "all languages",
    "many languages",
    "разных язык",
    "других язык",
    "иностранн",
    "unicode",
    "etymolog",
];

/// The scripts of all languages that a prompt names; `None` if any script may be meant.
pub fn asked_for(prompt: &str) -> Option<Scripts> {
    let prompt = prompt.to_lowercase();
    if ANY.iter().any(|name| names(&prompt, name)) {
        return None;
    }
    let named = NAMES.iter().filter(|(_, words)| words.iter().any(|name| names(&prompt, name)));
    Some(named.fold(Scripts::default(), |scripts, (language, _)| scripts.union(Scripts::of_language(language))))
}

/// True if the name stands at the beginning of a word. Scripts without spaces have no such beginnings.
fn names(prompt: &str, name: &str) -> bool {
    let spaced = name.starts_with(|c: char| (c as u32) < 0x3000);
    prompt.match_indices(name).any(|(at, _)| !spaced || !prompt[..at].ends_with(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::super::scripts::count_letters;
    use super::*;

    #[test]
    fn named_languages_bring_their_scripts_and_translations_bring_all() {
        for (prompt, answer) in [
            ("How do you say good morning in Japanese?", "おはよう 日本"),
            ("как сказать спасибо по-японски?", "ありがとう"),
            ("用日本语怎么说", "ありがとう"),
            ("Write a verse in Hindi.", "नमस्ते"),
            ("Wie heißt das auf Russisch?", "да"),
        ] {
            let scripts = asked_for(prompt).expect("one language");
            assert_eq!(count_letters(answer, scripts).foreign, 0, "{prompt}");
        }
        for prompt in ["Translate: cat", "Переведи это слово", "Give its original title."] {
            assert!(asked_for(prompt).is_none(), "{prompt}");
        }
        for prompt in ["Is Tirana a capital?", "Draw a scarab.", "Explain deus ex machina."] {
            assert_eq!(asked_for(prompt), Some(Scripts::default()), "a name inside a word: {prompt}");
        }
        let none = asked_for("Explain how bread is made in Ghana.").expect("no language");
        assert_eq!(count_letters("猫да", none).foreign, 3);
    }
}
