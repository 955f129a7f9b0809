//! Tokenizers from metadata: the ids that the original tokenizers give, the files that go with them, and refusals by name.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;
use smpo_fixtures::Gguf;
use smpo_gguf::companions;
use tempfile::TempDir;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

struct Written {
    _dir: TempDir,
    path: PathBuf,
}

impl Written {
    fn new(file: &Gguf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        fs::write(&path, file.bytes()).unwrap();
        Self { _dir: dir, path }
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        companions(&self.path).unwrap().into_iter().find(|(found, _)| found == name).map(|(_, text)| text)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.file(name).unwrap()).unwrap()
    }

    fn tokenizer(&self) -> Tokenizer {
        Tokenizer::from_bytes(self.file("tokenizer.json").unwrap()).unwrap()
    }

    fn refusal(&self) -> String {
        companions(&self.path).unwrap_err().to_string()
    }
}

fn ids(tokenizer: &Tokenizer, text: &str, special: bool) -> Vec<u32> {
    tokenizer.encode_fast(text, special).unwrap().get_ids().to_vec()
}

fn demo() -> (Tokenizer, Tokenizer) {
    let base = smpo_fixtures::demo("base");
    let file = Gguf::new("qwen2").with_tokenizer(&base);
    (Written::new(&file).tokenizer(), Tokenizer::from_file(base.join("tokenizer.json")).unwrap())
}

proptest! {
    #[test]
    fn a_byte_level_tokenizer_gives_the_original_ids(text in smpo_fixtures::text()) {
        thread_local!(static DEMO: (Tokenizer, Tokenizer) = demo());
        DEMO.with(|(read, original)| {
            let expected = ids(original, &text, false);
            assert_eq!(ids(read, &text, false), expected);
            assert_eq!(read.decode(&expected, false).unwrap(), original.decode(&expected, false).unwrap());
        });
    }
}

fn byte_level(pre: &str) -> Gguf {
    Gguf::new("llama")
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", &["a", "b", "ab", "<s>", "<eot>", "[PAD5]", "[PAD6]"].map(String::from))
        .i32s("tokenizer.ggml.token_type", &[1, 1, 1, 3, 3, 5, 5])
        .texts("tokenizer.ggml.merges", &["a b".to_string()])
        .u32("tokenizer.ggml.bos_token_id", 3)
        .u32("tokenizer.ggml.eos_token_id", 3)
        .u32("tokenizer.ggml.eot_token_id", 4)
        .u32("llama.context_length", 64)
}

#[test]
fn texts_are_split_as_each_name_says() {
    let golden = fs::read_to_string(smpo_fixtures::golden("gguf", "splits.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    for (name, ends) in golden["ends"].as_object().unwrap() {
        let tokenizer = Written::new(&byte_level(name)).tokenizer();
        for (text, ends) in golden["texts"].as_array().unwrap().iter().zip(ends.as_array().unwrap()) {
            let mut pieces = PreTokenizedString::from(text.as_str().unwrap());
            tokenizer.get_pre_tokenizer().unwrap().pre_tokenize(&mut pieces).unwrap();
            let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Char);
            let got: Vec<u64> = splits.iter().map(|(_, offsets, _)| offsets.1 as u64).collect();
            assert_eq!(serde_json::json!(got), *ends, "{name}: {text}");
        }
    }
}

#[test]
fn special_tokens_ends_and_templates_come_along() {
    let file = byte_level("llama-bpe")
        .text("tokenizer.chat_template", "{{ messages }}")
        .text("tokenizer.chat_template.tool_use", "{{ tools }}");
    let written = Written::new(&file);
    // Rows beyond the vocabulary are no tokens.
    assert_eq!(written.tokenizer().get_vocab_size(true), 5);
    // Llama 3's pre-tokenizer adds BOS where nothing else is said.
    assert_eq!(ids(&written.tokenizer(), "ab<eot>", true), [3, 2, 4]);
    assert_eq!(written.json("generation_config.json")["eos_token_id"], serde_json::json!([3, 4]));
    // An end beyond the vocabulary is handed on: it is warned of as in a directory.
    let stale = Written::new(&byte_level("llama-bpe").u32("tokenizer.ggml.eom_token_id", 999_999));
    assert_eq!(stale.json("generation_config.json")["eos_token_id"], serde_json::json!([3, 4, 999_999]));
    let config = written.json("tokenizer_config.json");
    assert_eq!((&config["eos_token"], &config["add_bos_token"]), (&"<s>".into(), &true.into()));
    assert_eq!(written.file("chat_template.jinja").unwrap(), b"{{ messages }}");
    assert_eq!(written.file("additional_chat_templates/tool_use.jinja").unwrap(), b"{{ tools }}");
    let said = Written::new(&byte_level("llama-bpe").bool("tokenizer.ggml.add_bos_token", false));
    assert_eq!(ids(&said.tokenizer(), "ab", true), [2]);
    let leads_out = Written::new(&file.text("tokenizer.chat_template.../x", ""));
    assert!(leads_out.refusal().contains("a name of letters"), "{}", leads_out.refusal());
}

/// A SentencePiece vocabulary with all bytes, and some pieces with scores.
fn sentence_piece(architecture: &str, pieces: &[(&str, f32, i32)]) -> Gguf {
    let mut tokens = vec![("<unk>".to_string(), 0.0, 2), ("<s>".to_string(), 0.0, 3), ("</s>".to_string(), 0.0, 3)];
    tokens.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    tokens.extend(pieces.iter().map(|(piece, score, kind)| (piece.to_string(), *score, *kind)));
    let texts: Vec<String> = tokens.iter().map(|(text, ..)| text.clone()).collect();
    Gguf::new(architecture)
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &texts)
        .f32s("tokenizer.ggml.scores", &tokens.iter().map(|(_, score, _)| *score).collect::<Vec<_>>())
        .i32s("tokenizer.ggml.token_type", &tokens.iter().map(|(.., kind)| *kind).collect::<Vec<_>>())
        .u32("tokenizer.ggml.unknown_token_id", 0)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32(&format!("{architecture}.context_length"), 64)
}

const PIECES: [(&str, f32, i32); 9] = [
    ("▁", -9.0, 1),
    ("a", -9.0, 1),
    ("b", -9.0, 1),
    ("c", -9.0, 1),
    ("bc", -1.0, 1),
    ("ab", -2.0, 1),
    ("▁a", -3.0, 1),
    ("▁abc", -4.0, 1),
    ("<tool>", 0.0, 4),
];

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    let id = |piece: &str| 259 + PIECES.iter().position(|(known, ..)| *known == piece).unwrap() as u32;
    let written = Written::new(&sentence_piece("llama", &PIECES));
    let tokenizer = written.tokenizer();
    // "bc" has the highest score, then "▁a", and both are a token.
    assert_eq!(ids(&tokenizer, "abc", false), [id("▁abc")]);
    assert_eq!(ids(&tokenizer, "abc", true), [1, id("▁abc")]);
    assert_eq!(ids(&tokenizer, "ab", false), [id("▁"), id("ab")]);
    assert_eq!(ids(&tokenizer, "é", false), [id("▁"), 3 + 0xC3, 3 + 0xA9]);
    assert_eq!(ids(&tokenizer, "c<tool>", false), [id("▁"), id("c"), id("<tool>")]);
    assert_eq!(tokenizer.decode(&ids(&tokenizer, "a éb", false), false).unwrap(), "a éb");
    let bare = Written::new(&sentence_piece("llama", &PIECES).bool("tokenizer.ggml.add_space_prefix", false));
    assert_eq!(ids(&bare.tokenizer(), "abc", false), [id("a"), id("bc")]);
}

#[test]
fn gemma_merges_by_place_and_spells_blanks_out() {
    let pieces = [("  ", -1000.0, 4), ("▁", 0.0, 1), ("a", 0.0, 1), ("aa", 0.0, 1), ("▁a", 0.0, 1)];
    let file = sentence_piece("gemma3", &pieces).bool("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = Written::new(&file).tokenizer();
    // Two blanks are the first piece.
    assert_eq!(ids(&tokenizer, "  a", false), [259, 261]);
    assert_eq!(ids(&tokenizer, " aa", false), [260, 262]);
    assert_eq!(tokenizer.decode(&[259, 261], false).unwrap(), "  a");
}

#[test]
fn a_unigram_model_takes_the_likeliest_segmentation() {
    let pieces = [("▁", -3.0, 1), ("a", -3.0, 1), ("b", -3.0, 1), ("▁a", -1.0, 1), ("ab", -1.5, 1)];
    let tokens: Vec<String> =
        ["<pad>", "</s>", "<unk>"].into_iter().chain(pieces.map(|(p, ..)| p)).map(String::from).collect();
    let scores: Vec<f32> = [0.0; 3].into_iter().chain(pieces.map(|(_, score, _)| score)).collect();
    let file = Gguf::new("llama")
        .text("tokenizer.ggml.model", "t5")
        .texts("tokenizer.ggml.tokens", &tokens)
        .f32s("tokenizer.ggml.scores", &scores)
        .i32s("tokenizer.ggml.token_type", &[3, 3, 2, 1, 1, 1, 1, 1])
        .u32("tokenizer.ggml.eos_token_id", 1);
    // "▁a b" is likelier than "▁ ab".
    assert_eq!(ids(&Written::new(&file).tokenizer(), "ab", true), [6, 5, 1]);
}

#[test]
fn unread_and_damaged_tokenizers_are_refused_by_name() {
    let tokens = |list: &[&str]| list.iter().map(|token| token.to_string()).collect::<Vec<_>>();
    let plain = || Gguf::new("llama").text("tokenizer.ggml.model", "gpt2");
    for (file, expected) in [
        (Gguf::new("llama"), "`tokenizer.ggml.model`: expected one of gpt2, llama, t5, got nothing"),
        (
            Gguf::new("llama").text("tokenizer.ggml.model", "bert"),
            "of the kind `bert` (`tokenizer.ggml.model`) is not read",
        ),
        (byte_level("kimi-k2"), "the pre-tokenizer `kimi-k2` (`tokenizer.ggml.pre`) is not read"),
        (plain(), "`tokenizer.ggml.tokens`: expected a list of tokens"),
        (plain().texts("tokenizer.ggml.tokens", &tokens(&["a"])), "`tokenizer.ggml.merges`: expected the merges"),
        (
            plain().texts("tokenizer.ggml.tokens", &tokens(&["a", "a"])),
            "`tokenizer.ggml.tokens[1]`: expected a token of its own, got that of 0: \"a\"",
        ),
        (
            plain()
                .texts("tokenizer.ggml.tokens", &tokens(&["a", "b"]))
                .texts("tokenizer.ggml.merges", &tokens(&["a b"])),
            "`tokenizer.ggml.merges[0]`: expected two tokens with a blank between",
        ),
        (
            plain().texts("tokenizer.ggml.tokens", &tokens(&["a", "b"])).i32s("tokenizer.ggml.token_type", &[1]),
            "`tokenizer.ggml.token_type`: expected 2, one per token, got 1",
        ),
        (plain().u32("tokenizer.ggml.tokens", 3), "`tokenizer.ggml.tokens`: expected a list, got 3"),
        (
            Gguf::new("llama").text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", &tokens(&["a"])),
            "`tokenizer.ggml.scores`: expected a score per token",
        ),
    ] {
        let refusal = Written::new(&file).refusal();
        assert!(refusal.contains("m.gguf: ") && refusal.contains(expected), "{expected}\n{refusal}");
    }
}
