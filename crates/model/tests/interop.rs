//! Interoperability: `interop/check.py` loads this crate's output with transformers and PEFT.
//!
//! `SMPO_INTEROP_DIR=/tmp/interop cargo test --release -p smpo-model --test interop -- --ignored`
//! `python crates/model/tests/interop/check.py /tmp/interop`

mod reference;

use std::path::PathBuf;

use reference::{Expected, case_dir, cases, values};
use serde_json::json;
use smpo_model::{AdapterSaveOptions, Config, Decoder, LoraConfig, PackedBatch, SaveOptions};

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
            if name == "adapter" {
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
            dropout: 0.0,
            rslora: case.starts_with("qwen"),
            dora: case.starts_with("gemma") || case == "llama",
            targets: vec!["all-linear".into()],
        };
        decoder.add_lora(&lora, 1).unwrap();
        for (index, (_, variable)) in decoder.trainable().iter().enumerate() {
            let moved: Vec<f32> =
                values(variable).iter().enumerate().map(|(i, x)| x + 0.1 * ((i + 5 * index) as f32).cos()).collect();
            variable.set(&candle_core::Tensor::from_vec(moved, variable.shape(), variable.device()).unwrap()).unwrap();
        }
        write("adapter", &decoder);
        decoder.merge_lora().unwrap();
        write("merged", &decoder);
    }
}
