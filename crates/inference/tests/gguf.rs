//! A GGUF file through mistral.rs: the golden model, written as GGUF in float32, is the golden model.
#![cfg(feature = "mistralrs")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use smpo_chat::Message;
use smpo_fixtures::Gguf;
use smpo_inference::{Generator, MistralConfig, MistralEngine, Request, Sampler};

/// Hugging Face's tiny Qwen 2 as GGUF, without its tokenizer.
fn gguf(model: &Path) -> Vec<u8> {
    Gguf::of_model(model, "qwen2").bytes()
}

fn golden_dir() -> PathBuf {
    smpo_fixtures::golden("inference", "")
}

#[test]
fn a_gguf_file_is_the_model_it_was_made_from() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("model.gguf");
    fs::write(&file, gguf(&golden_dir().join("qwen2"))).expect("writable");

    let alone = MistralEngine::load(&file, &MistralConfig::default()).err().expect("no tokenizer").to_string();
    assert!(alone.contains("tokenizer.json") && alone.contains("beside it"), "{alone}");

    let config = MistralConfig { base: Some(golden_dir().join("qwen2")), ..MistralConfig::default() };
    let mut engine = MistralEngine::load(&file, &config).expect("loads");
    assert_eq!(engine.engine().dtype.as_deref(), Some("gguf"));
    let golden: Value =
        serde_json::from_slice(&fs::read(golden_dir().join("expected.json")).expect("readable")).expect("JSON");
    for case in golden["cases"].as_array().expect("cases") {
        let request = Request {
            prompt_id: case["prompt_id"].as_str().expect("text").into(),
            sample: case["sample"].as_u64().expect("a number") as u32,
            messages: serde_json::from_value::<Vec<Message>>(case["messages"].clone()).expect("messages"),
            sampler: serde_json::from_value::<Sampler>(case["sampler"].clone()).expect("a sampler"),
            max_tokens: case["cap"].as_u64().expect("a number") as u32,
            seed: case["seed"].as_u64().expect("a number"),
            extra_body: Default::default(),
        };
        let completion = engine.generate(&request).expect("generates");
        let ids: Vec<u32> = serde_json::from_value(case["token_ids"].clone()).expect("ids");
        assert_eq!(completion.token_ids, Some(ids), "{}", request.prompt_id);
        let expected: Vec<f32> = serde_json::from_value(case["logps"].clone()).expect("log-probs");
        for (got, expected) in completion.logps.expect("recorded").iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-4, "{}: {got} vs {expected}", request.prompt_id);
        }
    }
}

#[test]
fn a_broken_gguf_file_is_an_error_and_no_panic() {
    let whole = gguf(&golden_dir().join("qwen2"));
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = MistralConfig { base: Some(golden_dir().join("qwen2")), ..MistralConfig::default() };
    for (what, bytes) in [
        ("cut in the weights", &whole[..whole.len() / 2]),
        ("cut in the header", &whole[..60]),
        ("no GGUF", b"PK\x03\x04"),
    ] {
        let file = dir.path().join("broken.gguf");
        fs::write(&file, bytes).expect("writable");
        let error =
            MistralEngine::load(&file, &config).err().unwrap_or_else(|| panic!("{what}: it loaded")).to_string();
        assert!(error.contains("broken.gguf"), "{what}: {error}");
    }
}
