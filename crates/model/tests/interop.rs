//! Interoperability: `interop/check.py` loads this crate's output with transformers and PEFT.
//!
//! `SMPO_INTEROP_DIR=/tmp/interop cargo test --release -p smpo-model --test interop -- --ignored`
//! `python crates/model/tests/interop/check.py /tmp/interop`

mod reference;

use std::path::PathBuf;

use reference::{Expected, case_dir, cases, models_in, values};
use serde_json::json;
use smpo_model::{AdapterSaveOptions, Config, Decoder, LoraConfig, PackedBatch, SaveOptions, TrainedBeside};

#[test]
#[ignore = "writes files for interop/check.py, which needs Python with transformers and PEFT"]
fn write_models_and_adapters() {
    let root = PathBuf::from(std::env::var("SMPO_INTEROP_DIR").expect("SMPO_INTEROP_DIR names an absent directory"));
    for case in cases() {
        let sequences = Expected::read(case).sequences;
        let batch = PackedBatch::from_sequences(sequences.iter().map(|s| (&s.prompt[..], &s.completion[..]))).unwrap();
        let write = |name: &str, decoder: &Decoder| {
            let dir = root.join(case).join(name);
            let shard_bytes = (name == "sharded").then_some(4000);
            if decoder.lora().is_some() {
                let base_model = root.join(case).join("full").display().to_string();
                decoder.save_adapter(&dir, &AdapterSaveOptions { base_model, ..Default::default() }).unwrap();
            } else {
                decoder.save(&dir, &SaveOptions { shard_bytes, ..Default::default() }).unwrap();
            }
            let log_probs = values(&decoder.log_probs(&batch).unwrap());
            let sides: Vec<_> = sequences
                .iter()
                .zip(batch.completions())
                .map(|(s, range)| {
                    json!({"prompt": s.prompt, "completion": s.completion, "log_probs": log_probs[range.clone()]})
                })
                .collect();
            std::fs::write(dir.join("expected.json"), json!(sides).to_string()).unwrap();
        };
        // Other weights than the golden file's, so that nothing can be read from there.
        let config = Config::from_dir(case_dir(case)).unwrap();
        let mut decoder = Decoder::init(&config, 7).unwrap();
        write("full", &decoder);
        write("sharded", &decoder);
        let lora = LoraConfig {
            r: 3,
            alpha: 5.0,
            rslora: case.starts_with("qwen"),
            targets: vec!["all-linear".into()],
            ..LoraConfig::default()
        };
        // PEFT beside transformers 5 adapts either the experts or plain feed-forward layers of a model, and has no DoRA for
        // experts.
        let routed: Vec<bool> = config.spec().layers.iter().map(|layer| layer.routed).collect();
        if routed.contains(&true) && routed.contains(&false) {
            continue;
        }
        decoder.add_lora(&lora, 1).unwrap();
        move_trainable(&decoder);
        write("adapter", &decoder);
        decoder.merge_lora().unwrap();
        write("merged", &decoder);
        let mut decoder = Decoder::init(&config, 7).unwrap();
        let targets = if routed[0] { vec!["q_proj".into(), "o_proj".into()] } else { lora.targets.clone() };
        decoder.add_lora(&LoraConfig { dora: true, targets, ..lora.clone() }, 1).unwrap();
        move_trainable(&decoder);
        write("dora", &decoder);

        // Modules and rows of the embedding beside adapters, and new tokens, which need more rows than the base has.
        let modules = ["embed_tokens", "lm_head", "model.norm"].map(str::to_owned).to_vec();
        let whole = TrainedBeside { modules, tokens: Vec::new() };
        let rows = TrainedBeside { modules: Vec::new(), tokens: vec![1, 3] };
        for (name, beside, new) in [("modules", &whole, 0), ("tokens", &rows, 0), ("new-tokens", &whole, 2)] {
            let mut decoder = Decoder::init(&config, 7).unwrap();
            decoder.add_tokens(config.spec().vocab_size, new).unwrap();
            decoder.add_lora(&lora, 1).unwrap();
            decoder.train_beside(beside).unwrap();
            if name == "tokens" {
                move_rows(&decoder, &beside.tokens);
            } else {
                move_trainable(&decoder);
            }
            write(name, &decoder);
            let mut again = Decoder::init(&config, 7).unwrap();
            again.load_adapter(root.join(case).join(name)).unwrap();
            assert_eq!(values(&again.log_probs(&batch).unwrap()), values(&decoder.log_probs(&batch).unwrap()));
            decoder.merge_lora().unwrap();
            write(&format!("merged-{name}"), &decoder);
        }
    }
}

#[test]
#[ignore = "writes files for interop/check.py, which needs Python with transformers and PEFT"]
fn write_text_halves_and_adapters() {
    let root = PathBuf::from(std::env::var("SMPO_INTEROP_DIR").expect("SMPO_INTEROP_DIR names an absent directory"));
    for case in models_in("wrapped") {
        let source = format!("wrapped/{case}");
        let sequences = Expected::read(&source).sequences;
        let batch = PackedBatch::from_sequences(sequences.iter().map(|s| (&s.prompt[..], &s.completion[..]))).unwrap();
        let expect = |name: &str, decoder: &Decoder| {
            let log_probs = values(&decoder.log_probs(&batch).unwrap());
            let sides: Vec<_> = sequences
                .iter()
                .zip(batch.completions())
                .map(|(s, range)| {
                    json!({"prompt": s.prompt, "completion": s.completion, "log_probs": log_probs[range.clone()]})
                })
                .collect();
            std::fs::write(root.join(&source).join(name).join("expected.json"), json!(sides).to_string()).unwrap();
        };
        let dir = |name: &str| root.join(&source).join(name);
        let mut decoder = Decoder::load(case_dir(&source)).unwrap();
        move_trainable(&decoder);
        decoder.save(dir("full"), &SaveOptions { shard_bytes: Some(8000), ..Default::default() }).unwrap();
        expect("full", &decoder);
        let targets = vec!["all-linear".to_owned()];
        let lora = LoraConfig { r: 3, alpha: 5.0, dora: case == "gemma3", targets, ..LoraConfig::default() };
        decoder.add_lora(&lora, 1).unwrap();
        if case.starts_with("mistral3") {
            let modules = ["embed_tokens", "lm_head", "model.norm"].map(str::to_owned).to_vec();
            decoder.train_beside(&TrainedBeside { modules, tokens: Vec::new() }).unwrap();
        }
        move_trainable(&decoder);
        let base_model = dir("full").display().to_string();
        decoder.save_adapter(dir("adapter"), &AdapterSaveOptions { base_model, ..Default::default() }).unwrap();
        expect("adapter", &decoder);
        decoder.merge_lora().unwrap();
        decoder.save(dir("merged"), &SaveOptions::default()).unwrap();
        expect("merged", &decoder);
    }
}

/// Moves every variable away from its value.
fn move_trainable(decoder: &Decoder) {
    for (index, (_, variable)) in decoder.trainable().iter().enumerate() {
        let moved: Vec<f32> =
            values(variable).iter().enumerate().map(|(i, x)| x + 0.1 * ((i + 5 * index) as f32).cos()).collect();
        variable.set(&candle_core::Tensor::from_vec(moved, variable.shape(), variable.device()).unwrap()).unwrap();
    }
}

/// Moves some rows of the embedding.
fn move_rows(decoder: &Decoder, rows: &[u32]) {
    let embedding = decoder.embedding_var().unwrap();
    let width = embedding.dims()[1];
    let mut moved = values(&embedding);
    for row in rows {
        moved[*row as usize * width..][..width].iter_mut().for_each(|value| *value += 0.1);
    }
    embedding.set(&candle_core::Tensor::from_vec(moved, embedding.shape(), embedding.device()).unwrap()).unwrap();
}
