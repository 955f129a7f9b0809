//! The fast path against the library itself: the same cuts, ids and offsets, for every pattern and any text.

use std::sync::{Arc, LazyLock, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::utils::SysRegex;
use tokenizers::{PreTokenizerWrapper, Tokenizer};

use super::pattern::{Cuts, KNOWN, Pattern};
use super::words::Words;
use super::{ByteLevel, Memory};
use crate::encoded::Encoded;

/// A tokenizer of 420 tokens with other stages than its own.
fn tokenizer(change: impl Fn(&mut Value)) -> Tokenizer {
    let path = smpo_fixtures::golden("tokenizer", "chatml").join("tokenizer.json");
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    json["post_processor"] = Value::Null;
    change(&mut json);
    Tokenizer::from_bytes(json.to_string()).unwrap()
}

fn split(pattern: &str, behavior: &str, invert: bool) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert})
}

fn stages(splits: &[Value], use_regex: bool) -> Value {
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let all = [splits, &[bytes]].concat();
    json!({"type": "Sequence", "pretokenizers": all})
}

/// Every known pattern alone and under NFC, some in stages, inverted, with the older `Removed`, and added tokens that swallow
/// white space or are looked for in normalized text.
static ALL: LazyLock<Vec<(Tokenizer, ByteLevel)>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for (at, pattern) in KNOWN.iter().enumerate() {
        all.push(tokenizer(|json| {
            json["pre_tokenizer"] = stages(&[split(pattern, "Isolated", false)], false);
            if at % 2 == 0 {
                json["normalizer"] = json!({"type": "NFC"});
            }
        }));
    }
    let deepseek: Vec<Value> = KNOWN[7..10].iter().map(|pattern| split(pattern, "Isolated", false)).collect();
    all.push(tokenizer(|json| {
        json["pre_tokenizer"] = stages(&deepseek, false);
        json["normalizer"] = json!({"type": "Sequence", "normalizers": []});
    }));
    all.push(tokenizer(|json| json["pre_tokenizer"] = stages(&[split(KNOWN[1], "Removed", true)], false)));
    all.push(tokenizer(|json| json["pre_tokenizer"] = stages(&[split(KNOWN[10], "Isolated", false)], true)));
    for (lstrip, rstrip, normalized) in [(true, false, false), (false, true, false), (true, true, true)] {
        all.push(tokenizer(|json| {
            json["added_tokens"].as_array_mut().unwrap().extend([
                json!({"id": 420, "content": "<tool>", "single_word": false, "lstrip": lstrip, "rstrip": rstrip,
                       "normalized": normalized, "special": false}),
                json!({"id": 421, "content": "<tool>s", "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": !normalized, "special": true}),
                json!({"id": 422, "content": "  ", "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": true, "special": false}),
            ]);
        }));
    }
    all.into_iter().map(|tokenizer| (tokenizer.clone(), ByteLevel::of(&tokenizer).expect("a fast path"))).collect()
});

/// Cuts of the library's regex engine: its matches, and the text between them.
fn library_cuts(regex: &SysRegex, text: &str) -> Vec<(usize, usize)> {
    let mut cuts = Vec::new();
    let mut before = 0;
    for (start, end) in regex.find_iter(text).chain([(text.len(), text.len())]) {
        cuts.extend([(before, start), (start, end)].into_iter().filter(|(from, to)| from < to));
        before = end;
    }
    cuts
}

#[test]
fn every_character_is_of_the_classes_that_the_library_puts_it_in() {
    // assigned planes; what lies beyond is private or empty
    let characters = (0..0x32400).chain(0xe0000..0xe0200).chain(0x10_0000..0x10_0010).filter_map(char::from_u32);
    // Spaces, line ends and letters of contractions are all below U+3400. The ideographs above need only what tells
    // letters of each case, marks, numbers and the rest apart.
    let in_context = |c: &char| match c {
        ..'\u{3400}' => format!("a{c}1 {c}{c}\n'{c}e'l{c}.{c} \t{c}  x"),
        _ => format!("a{c}1.{c}Aa"),
    };
    let characters: Vec<char> = characters.collect();
    let texts: Vec<String> = characters.chunks(16).map(|some| some.iter().map(in_context).collect()).collect();
    std::thread::scope(|scope| {
        for pattern in KNOWN {
            let texts = &texts;
            scope.spawn(move || {
                let split: PreTokenizerWrapper = serde_json::from_value(split(pattern, "Isolated", false)).unwrap();
                let (regex, patterns) = (SysRegex::new(pattern).unwrap(), [Pattern::of(&split).unwrap()]);
                let mut scratch: Vec<_> = patterns.iter().map(Pattern::scratch).collect();
                for text in texts {
                    let mut cuts = Vec::new();
                    Cuts { patterns: &patterns, scratch: &mut scratch, text }
                        .each(0, 0, text.len(), &mut |start, end| {
                            cuts.push((start, end));
                            Some(())
                        })
                        .unwrap();
                    assert_eq!(cuts, library_cuts(&regex, text), "{pattern} on {text:?}");
                }
            });
        }
    });
}

#[test]
fn what_is_not_known_is_left_to_the_library() {
    let other = |change: &dyn Fn(&mut Value)| ByteLevel::of(&tokenizer(change)).is_none();
    assert!(other(&|json| json["pre_tokenizer"] = stages(&[split(r"\w+", "Isolated", false)], false)));
    assert!(other(&|json| json["pre_tokenizer"] = stages(&[split(KNOWN[1], "MergedWithNext", false)], false)));
    assert!(other(&|json| json["pre_tokenizer"] = json!({"type": "Whitespace"})));
    assert!(other(&|json| json["pre_tokenizer"]["add_prefix_space"] = json!(true)));
    assert!(other(&|json| json["normalizer"] = json!({"type": "NFKC"})));
    assert!(other(&|json| json["normalizer"] = json!({"type": "Lowercase"})));
    assert!(other(&|json| json["model"]["dropout"] = json!(0.1)));
    assert!(other(&|json| json["added_tokens"][0]["single_word"] = json!(true)));
    let (nfc, short) = &ALL[0];
    assert!(short.encode(nfc, &["e\u{301}"]).is_none(), "a text that NFC changes");
    assert!(short.encode(nfc, &["\u{e9}"]).is_some());
}

#[test]
fn a_byte_that_the_vocabulary_lacks_is_left_to_the_library_each_time() {
    let lacking = tokenizer(|json| {
        json["pre_tokenizer"] = stages(&[split(KNOWN[1], "Isolated", false)], false);
        json["model"]["vocab"].as_object_mut().unwrap().remove("\u{f4}").unwrap();
    });
    let short = ByteLevel::of(&lacking).unwrap();
    for _ in 0..2 {
        assert!(short.encode(&lacking, &["a \u{100000}"]).is_none());
        assert!(short.encode(&lacking, &["a"]).is_some());
    }
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ \t\n\r]{1,4}",
        "[a-zA-Z]{1,6}",
        "[0-9]{1,7}",
        "[!-/:-@]{1,3}",
        Just("'S'll 'Re'Ve'ſ".to_string()),
        Just("<tool>".to_string()),
        Just("<tool>s".to_string()),
        Just("<|im_end|>".to_string()),
        Just("<|im_start|>".to_string()),
        Just("<|im".to_string()),
        Just("Привет, мир".to_string()),
        Just("日本語テキスト一".to_string()),
        Just("\u{a0}\u{2003}\u{85}".to_string()),
        Just("cafe\u{301}".to_string()),
        Just("the quick brown fox".to_string()),
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ids_and_offsets_are_the_librarys(start in text(), texts in proptest::collection::vec(text(), 1..4)) {
        let texts: Vec<String> = texts.iter().map(|text| format!("{start}{text}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for (at, (tokenizer, short)) in ALL.iter().enumerate() {
            let Some(encoded) = short.encode(tokenizer, &texts) else { continue };
            for (text, encoded) in texts.iter().zip(encoded) {
                let whole = tokenizer.encode(*text, false).unwrap();
                prop_assert_eq!(&encoded.ids, whole.get_ids(), "tokenizer {} on {:?}", at, text);
                let whole = Encoded::from(whole);
                for split in (0..=text.len()).filter(|&split| text.is_char_boundary(split)) {
                    prop_assert_eq!(
                        encoded.before(split, |id| id < 3), whole.before(split, |id| id < 3), "{:?} at {}", text, split
                    );
                }
            }
        }
    }

    #[test]
    fn a_memory_that_was_filled_and_cleared_changes_nothing(texts in proptest::collection::vec(text(), 1..20)) {
        let (tokenizer, short) = &ALL[1];
        let limited = |limit| {
            let scratch = short.patterns.iter().map(Pattern::scratch).collect();
            let memory = Memory { words: Words::with_limit(limit), scratch };
            ByteLevel { memories: Arc::new(Mutex::new(vec![memory])), ..short.clone() }
        };
        // One is never cleared, one is cleared at every other word, one starts empty.
        let (full, cleared) = (limited(usize::MAX), limited(3));
        for text in &texts {
            let fresh = limited(usize::MAX).encode(tokenizer, &[text]);
            prop_assert_eq!(&fresh, &full.encode(tokenizer, &[text]));
            prop_assert_eq!(&fresh, &full.encode(tokenizer, &[text]));
            prop_assert_eq!(&fresh, &cleared.encode(tokenizer, &[text]));
        }
    }
}
