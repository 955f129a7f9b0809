//! New tokens, and rows of the embedding trained beside adapters.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use smpo_data::HoldOut;
use smpo_fixtures::demo;
use smpo_model::{Decoder, ModelDir};
use smpo_tokenizer::ChatTokenizer;
use smpo_trainer::{EarlierRun, Event, TrainConfig, TrainConfigBuilder, train};
use support::{loss, run, run_until};
use tempfile::TempDir;

const TOKENS: [&str; 2] = ["<mood:glad>", "<mood:sad>"];

fn config(dir: &Path, out: &str) -> TrainConfigBuilder {
    let data = dir.join("moods.jsonl");
    if !data.exists() {
        let line = |index: usize| {
            let (chosen, rejected) = ("<mood:glad>The soup is hot.", "<mood:sad>The soup is cold.");
            let prompt = format!("How is soup {index}?");
            format!("{}\n", serde_json::json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}))
        };
        std::fs::write(&data, (0..8).map(line).collect::<String>()).unwrap();
    }
    TrainConfig::builder(loss("kind = \"dpo\""))
        .model(demo("base"))
        .output_dir(dir.join(out))
        .train_files([data])
        .max_length(128)
        .per_device_train_batch_size(4)
        .max_steps(4)
        .learning_rate(1e-3)
}

fn bytes(config: &TrainConfig, file: &str) -> Vec<u8> {
    std::fs::read(config.output_dir.join("model").join(file)).unwrap()
}

fn embedding(decoder: &Decoder) -> Vec<Vec<f32>> {
    let copy = {
        let mut copy = decoder.clone();
        copy.set_trainable(|_| true).unwrap();
        copy
    };
    copy.embedding_var().unwrap().to_vec2().unwrap()
}

/// Stops after two steps, then goes on.
fn in_two_parts(config: &TrainConfig) {
    run_until(config, 2);
    run(config);
}

#[test]
fn added_tokens_are_trained_and_saved_with_the_model() {
    let dir = TempDir::new().unwrap();
    let vocabulary = Decoder::load(demo("base")).unwrap().spec().vocab_size;
    for (name, adapters, file) in [("full", false, "model.safetensors"), ("lora", true, "adapter_model.safetensors")] {
        let config = |out: &str| {
            config(dir.path(), &format!("{name}-{out}"))
                .use_peft(adapters)
                .added_special_tokens(TOKENS)
                .test_size(HoldOut::Rows(2))
                .build()
                .unwrap()
        };
        let whole = config("whole");
        let records = run(&whole);
        assert!((records[1].metric("loss").unwrap() - std::f64::consts::LN_2).abs() < 1e-6);
        let model = whole.output_dir.join("model");
        let decoder = ModelDir::open(&model, None).unwrap().load().unwrap();
        assert_eq!(decoder.spec().vocab_size, vocabulary + 2, "{name}");
        let tokenizer = ChatTokenizer::from_model_dir(&model).unwrap();
        for (id, token) in (vocabulary as u32..).zip(TOKENS) {
            assert_eq!(tokenizer.tokenizer().token_to_id(token), Some(id));
            assert_eq!(tokenizer.encode_text(token).unwrap(), [id]);
        }
        let rows = embedding(&decoder);
        assert_ne!(rows[vocabulary], rows[vocabulary + 1], "{name}: the new rows have not moved apart");
        let stopped = config("stopped");
        in_two_parts(&stopped);
        assert!(bytes(&whole, file) == bytes(&stopped, file), "{name}: the weights differ");
    }
}

/// Special tokens that `special_tokens_map.json` alone names, as tokenizers of older models do, stay what they are when the
/// configuration names another one.
#[test]
fn special_tokens_of_a_map_survive_a_token_that_is_named() {
    let dir = TempDir::new().unwrap();
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for entry in std::fs::read_dir(demo("base")).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
    }
    let path = model.join("tokenizer_config.json");
    let mut names: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut map = serde_json::Map::new();
    names.insert("bos_token".into(), "<|endoftext|>".into());
    for key in ["bos_token", "eos_token", "pad_token"] {
        let token = names.remove(key).unwrap();
        map.insert(key.to_owned(), serde_json::json!({"content": token, "lstrip": false}));
    }
    std::fs::write(&path, serde_json::to_vec(&names).unwrap()).unwrap();
    std::fs::write(model.join("special_tokens_map.json"), serde_json::to_vec(&map).unwrap()).unwrap();
    let before = ChatTokenizer::from_model_dir(&model).unwrap();
    let pad = map["pad_token"]["content"].as_str().unwrap();
    let named = config(dir.path(), "named").model(&model).pad_token(pad).build().unwrap();
    run(&named);
    let saved = named.output_dir.join("model");
    let after = ChatTokenizer::from_model_dir(&saved).unwrap();
    assert_eq!((after.bos(), after.terminator_ids()), (before.bos(), before.terminator_ids()));
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(saved.join("tokenizer_config.json")).unwrap()).unwrap();
    assert_eq!(written["bos_token"], map["bos_token"]["content"]);
    assert!(!saved.join("special_tokens_map.json").exists());
}

/// Tokens that the tokenizer has and the model lacks.
#[test]
fn tokens_beyond_the_model_get_rows_when_they_are_named() {
    let dir = TempDir::new().unwrap();
    let vocabulary = Decoder::load(demo("base")).unwrap().spec().vocab_size;
    let first = config(dir.path(), "first").added_special_tokens(TOKENS).max_steps(1).build().unwrap();
    run(&first);
    let base = dir.path().join("base");
    std::fs::create_dir(&base).unwrap();
    for entry in std::fs::read_dir(demo("base")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), base.join(entry.file_name())).unwrap();
    }
    std::fs::copy(first.output_dir.join("model/tokenizer.json"), base.join("tokenizer.json")).unwrap();
    let refused = config(dir.path(), "refused").model(&base).build().unwrap();
    let error = train(&refused, EarlierRun::Resume, &AtomicBool::new(false), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("outside the model's vocabulary") && error.contains("added_special_tokens"), "{error}");
    let named = config(dir.path(), "named").model(&base).added_special_tokens([TOKENS[0]]).build().unwrap();
    run(&named);
    assert_eq!(Decoder::load(named.output_dir.join("model")).unwrap().spec().vocab_size, vocabulary + 2);
}

#[test]
fn only_the_rows_of_the_given_tokens_are_trained() {
    let dir = TempDir::new().unwrap();
    let tokens = ChatTokenizer::from_model_dir(demo("base")).unwrap().encode_text("How is soup").unwrap()[..2].to_vec();
    let config = |out: &str| {
        config(dir.path(), out)
            .use_peft(true)
            .weight_decay(0.1)
            .trainable_token_indices(tokens.clone())
            .build()
            .unwrap()
    };
    let whole = config("whole");
    run(&whole);
    let before = embedding(&Decoder::load(demo("base")).unwrap());
    let after = embedding(&ModelDir::open(whole.output_dir.join("model"), None).unwrap().load().unwrap());
    let moved: Vec<usize> = (0..before.len()).filter(|row| before[*row] != after[*row]).collect();
    assert!(moved.iter().all(|row| tokens.contains(&(*row as u32))) && !moved.is_empty(), "{moved:?}");
    let stopped = config("stopped");
    in_two_parts(&stopped);
    let file = "adapter_model.safetensors";
    assert!(bytes(&whole, file) == bytes(&stopped, file), "the weights differ");
}

#[test]
fn adapters_on_new_tokens_that_nothing_trains_are_warned_of() {
    let dir = TempDir::new().unwrap();
    // A model that was enlarged elsewhere: its new rows are still alike.
    let enlarged = config(dir.path(), "enlarged").added_special_tokens(TOKENS).learning_rate(1e-12).build().unwrap();
    run(&enlarged);
    let base: PathBuf = enlarged.output_dir.join("model");
    let notes = |builder: TrainConfigBuilder| {
        let mut notes = String::new();
        train(
            &builder.model(&base).use_peft(true).build().unwrap(),
            EarlierRun::Resume,
            &AtomicBool::new(false),
            &mut |event| {
                if let Event::Note(note) = event {
                    notes += note;
                }
            },
        )
        .unwrap();
        notes
    };
    assert!(notes(config(dir.path(), "told")).contains("nothing trains them"));
    assert!(
        !notes(config(dir.path(), "trained").modules_to_save(["embed_tokens", "lm_head"]))
            .contains("nothing trains them")
    );
}
