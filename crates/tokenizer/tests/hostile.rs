//! Tokenizers that lie, as hostile files do: an error or a tokenizer, never a panic, and at no cost in memory beyond what the
//! file holds.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use smpo_chat::Message;
use smpo_fixtures::{CountingAllocator, Dice, golden, hostile_json};
use smpo_tokenizer::ChatTokenizer;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Memory of reading beside what is in the file: the tables of byte levels and of regular expressions.
const OVERHEAD: usize = 48 << 20;

/// Copies of the file's bytes that may be in memory at once.
const COPIES: usize = 64;

const ROUNDS: u64 = 300;

fn read(dir: &Path) -> Result<(), String> {
    let tokenizer = ChatTokenizer::from_model_dir(dir).map_err(|error| error.to_string())?;
    let messages = [Message::user("2+2? Ünïcode \u{1f600} 12345\n\n  x")];
    let answer = [Message::assistant("4 <|im_end|> five")];
    tokenizer.encode_completion(&messages, &answer).map(drop).map_err(|error| error.to_string())
}

fn survive(dir: &Path, file: &str, document: &Value) -> u64 {
    let mut faults = 0;
    for seed in 0..ROUNDS {
        let bytes = hostile_json(document, &mut Dice::new(seed));
        fs::write(dir.join(file), &bytes).unwrap();
        let (peak, result) = ALLOCATOR.peak(|| read(dir));
        faults += u64::from(result.is_err());
        let most = OVERHEAD + COPIES * bytes.len();
        assert!(peak <= most, "{file}, seed {seed}: {peak} bytes instead of at most {most}");
    }
    fs::write(dir.join(file), document.to_string()).unwrap();
    faults
}

/// A tokenizer of another kind of model with the parts that readers choose by name.
fn of_model(model: Value) -> Value {
    json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 2},
        "padding": {"strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": 2, "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"},
        "added_tokens": [{"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, {"type": "NFKC"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": false}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}, {"type": "Digits", "individual_digits": true}]},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<unk>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<unk>": {"id": "<unk>", "ids": [0], "tokens": ["<unk>"]}}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": model
    })
}

#[test]
fn tokenizers_that_lie_cost_nothing_and_panic_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden("tokenizer", "chatml")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let json = |name: &str| -> Value { serde_json::from_slice(&fs::read(dir.path().join(name)).unwrap()).unwrap() };
    read(dir.path()).unwrap();
    let own = json("tokenizer.json");
    assert!(survive(dir.path(), "tokenizer.json", &own) > ROUNDS / 10);
    for name in ["tokenizer_config.json", "generation_config.json", "config.json"] {
        if dir.path().join(name).is_file() {
            survive(dir.path(), name, &json(name));
        }
    }
    for model in [
        json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
            "vocab": {"<unk>": 0, "▁": 1, "a": 2, "b": 3, "ab": 4}, "merges": [["a", "b"]]}),
        json!({"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [["<unk>", 0.0], ["▁", -1.0], ["a", -2.5]]}),
        json!({"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"<unk>": 0, "a": 1, "##b": 2}}),
        json!({"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 1}}),
    ] {
        survive(dir.path(), "tokenizer.json", &of_model(model));
    }
}
