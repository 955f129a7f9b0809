//! Every family as this project saves it, under mistral.rs: it loads the directory, and continues prompts greedily token
//! for token as the project's own forward pass does. Left out is what it runs otherwise than transformers or not at all:
//! windows shorter than the sequence, biases of Llama, YaRN, Gemma 3; and the families that it lacks.
#![cfg(feature = "mistralrs")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smpo_chat::Message;
use smpo_inference::{Generator, MistralConfig, MistralEngine, Request};
use smpo_model::{Config, Decoder, Family, SaveOptions};
use smpo_native::{NativeOptions, TokenPrompt, complete};
use smpo_sampling::{Noise, Recorder, Sampler};
use tempfile::TempDir;

/// Tokens of the golden models: words `w0` to `w31`, the last of which ends a turn.
const VOCABULARY: u32 = 32;
const END: u32 = VOCABULARY - 1;

const CAP: u32 = 24;

/// Nats, relative to the largest log p.
const TOLERANCE: f64 = 1e-5;

fn golden(case: &str) -> PathBuf {
    smpo_fixtures::golden("model", case)
}

/// Makes a directory of weights one that a conversation can be had with: a message is a list of words, and the prompt
/// is just that.
fn add_tokenizer(dir: &Path) {
    let words: serde_json::Map<String, Value> = (0..VOCABULARY).map(|id| (format!("w{id}"), json!(id))).collect();
    let end = json!({
        "id": END, "content": format!("w{END}"), "special": true, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false
    });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [end], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"}
    });
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config = json!({
        "eos_token": format!("w{END}"),
        "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    });
    fs::write(dir.join("tokenizer_config.json"), config.to_string()).unwrap();
}

/// Prompts of several lengths, no word of which ends a turn.
fn prompts() -> Vec<Vec<u32>> {
    [1u32, 4, 9, 23, 40]
        .into_iter()
        .map(|length| (0..length).map(|i| (i * i * 7 + i * 5 + length) % END).collect())
        .collect()
}

/// Saves the model, and lets both continue.
fn compare(case: &str, decoder: &Decoder) {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("model");
    decoder.save(&dir, &SaveOptions::default()).unwrap();
    add_tokenizer(&dir);
    let mut engine = MistralEngine::load(&dir, &MistralConfig::default()).unwrap_or_else(|e| panic!("{case}: {e}"));
    let prompts = prompts();
    let greedy = |ids: &Vec<u32>| TokenPrompt {
        ids: ids.clone(),
        recorder: Recorder::new(Sampler::greedy(), Noise::new(0, "", 0), &[END], CAP as usize),
    };
    let ours = complete(&decoder.pack().unwrap(), prompts.iter().map(greedy), NativeOptions::default()).unwrap();
    for (prompt, ours) in prompts.iter().zip(ours) {
        let ours = ours.unwrap();
        let words: Vec<String> = prompt.iter().map(|id| format!("w{id}")).collect();
        let request = Request {
            prompt_id: words.join(" "),
            sample: 0,
            messages: vec![Message::user(words.join(" "))],
            sampler: Sampler::greedy(),
            max_tokens: CAP,
            seed: 0,
            extra_body: Default::default(),
        };
        let theirs = engine.generate(&request).unwrap();
        let (length, token_ids) = (prompt.len(), theirs.token_ids.unwrap());
        assert_eq!(token_ids, ours.token_ids, "{case}: prompt of {length}");
        let logps = theirs.logps.unwrap();
        let largest = logps.iter().fold(0f64, |largest, p| largest.max(f64::from(p.abs())));
        for (theirs, ours) in logps.iter().zip(&ours.logps) {
            let difference = f64::from((theirs - ours).abs()) / largest;
            assert!(difference < TOLERANCE, "{case}: prompt of {length}: {theirs} and {ours}");
        }
    }
}

/// A golden model whose configuration says something else; its tensors stay.
fn changed(case: &str, changes: &Value) -> Decoder {
    let temp = TempDir::new().unwrap();
    let text = fs::read_to_string(golden(case).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(temp.path().join("config.json"), config.to_string()).unwrap();
    fs::copy(golden(case).join("model.safetensors"), temp.path().join("model.safetensors")).unwrap();
    Decoder::load(temp.path()).unwrap()
}

/// Once a sequence is longer than its window, mistral.rs 0.8.1 is not transformers: windows here are longer than that.
const NO_WINDOW: u32 = 128;

/// Families that mistral.rs 0.8.1 computes otherwise than transformers (the first), or lacks; the last two it has, and nobody
/// has compared them yet.
const NOT_RUN: [Family; 10] = [
    Family::Gemma3Text,
    Family::Olmo2,
    Family::Olmo3,
    Family::Granite,
    Family::Granite4,
    Family::Ministral3,
    Family::Cohere2,
    Family::Qwen35,
    Family::Qwen3Moe,
    Family::GptOss,
];

fn family_of(case: &str) -> Family {
    Config::from_dir(golden(case)).unwrap().family()
}

#[test]
fn mistral_rs_continues_every_family_it_runs_as_the_decoder_does() {
    let plain_rope = json!({"rope_type": "default", "rope_theta": 10000.0});
    let cases = [
        ("linear-rope", json!({"rope_parameters": plain_rope})),
        ("linear-rope", json!({})),
        ("llama3-rope", json!({})),
        ("qwen2", json!({})),
        ("qwen2-tied", json!({})),
        ("qwen3", json!({})),
        ("mistral", json!({"sliding_window": null})),
        ("mistral", json!({"sliding_window": NO_WINDOW})),
        ("phi3", json!({})),
        // Where the original length is less than the model's, its LongRoPE is not transformers' either.
        ("longrope", json!({"original_max_position_embeddings": 64})),
        ("gemma2", json!({"sliding_window": NO_WINDOW})),
    ];
    // Every other family as it is.
    let covered: Vec<Family> = cases.iter().map(|(case, _)| family_of(case)).chain(NOT_RUN).collect();
    let others = Family::ALL.iter().filter(|family| !covered.contains(family));
    for (case, changes) in cases.into_iter().chain(others.map(|family| (family.module(), json!({})))) {
        compare(&format!("{case} {changes}"), &changed(case, &changes));
    }
}
