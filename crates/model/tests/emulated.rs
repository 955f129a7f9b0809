//! Every family on the emulated device kernels, and with recomputed blocks, against the CPU's own operations.

mod reference;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use reference::{Expected, case_dir, relative_difference, values};
use serde_json::{Value, json};
use smpo_kernels::{Gradients, emulate};
use smpo_model::{Config, Decoder, Family, LoraConfig, PackedBatch, Placement, ScoreOptions, WeightDtype};

/// Largest difference allowed, relative to the largest expected value of the same tensor.
const TOLERANCE: f64 = 2e-5;

/// Log-probs, and the gradient of every trained parameter by name.
fn run(
    decoder: &Decoder,
    batch: &PackedBatch,
    weights: &[f32],
    checkpointing: bool,
) -> (Vec<f32>, BTreeMap<String, Vec<f32>>) {
    let trainable = decoder.trainable();
    let mut gradients = Gradients::new(trainable.iter().map(|(name, var)| (&name[..], var))).unwrap();
    let scored = decoder.score(batch, &ScoreOptions { checkpointing, ..ScoreOptions::default() }).unwrap();
    let log_probs = values(scored.log_probs());
    scored.backward(weights, &mut gradients).unwrap();
    let gradient = |var: &Var| values(&gradients.tensor(var).unwrap().unwrap());
    let found = trainable.iter().map(|(name, var)| (name.clone(), gradient(var))).collect();
    (log_probs, found)
}

/// A family's golden model made anew with heads of the width that devices require.
fn model(case: &str) -> Decoder {
    let text = std::fs::read_to_string(case_dir(case).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (field, value) in [("hidden_size", 32), ("num_attention_heads", 4), ("num_key_value_heads", 2), ("head_dim", 8)]
    {
        config[field] = json!(value);
    }
    Decoder::init(&Config::from_json(config).unwrap(), 1).unwrap()
}

fn adapted(case: &str, dora: bool) -> Decoder {
    let mut decoder = model(case);
    let targets = vec!["all-linear".to_owned()];
    decoder.add_lora(&LoraConfig { r: 2, alpha: 4.0, dora, targets, ..LoraConfig::default() }, 1).unwrap();
    // B starts at zero, where A has no gradient.
    for (name, var) in decoder.trainable().iter().filter(|(name, _)| name.contains("lora_B")) {
        let moved: Vec<f32> = (0..var.elem_count()).map(|i| 0.1 * ((i + name.len()) as f32).sin()).collect();
        var.set(&Tensor::from_vec(moved, var.shape(), var.device()).unwrap()).unwrap();
    }
    decoder
}

#[test]
fn every_family_computes_the_same_on_emulated_kernels_and_with_recomputed_blocks() {
    for case in Family::ALL.iter().map(|family| family.module()) {
        let spec = model(case).spec().clone();
        let lacking = [(spec.experts.is_some(), "routed experts"), (spec.delta.is_some(), "gated delta nets")];
        if let Some((_, part)) = lacking.iter().find(|(has, _)| *has) {
            // No kernel of a device runs it: refused before a weight is read.
            let error = emulate(|| Decoder::load(case_dir(case))).unwrap_err().to_string();
            assert!(error.starts_with(&format!("device: expected `cpu` for a model with {part}")), "{error}");
            continue;
        }
        let expected = Expected::read(case);
        let (batch, weights) = (expected.batch(), expected.weights());
        let models = [("all weights", model(case)), ("LoRA", adapted(case, false)), ("DoRA", adapted(case, true))];
        for (trained, decoder) in &models {
            let plain = run(decoder, &batch, &weights, false);
            let others = [
                ("recomputed", run(decoder, &batch, &weights, true)),
                ("emulated", emulate(|| run(decoder, &batch, &weights, false))),
                ("emulated, recomputed", emulate(|| run(decoder, &batch, &weights, true))),
            ];
            for (how, other) in others {
                let difference = relative_difference(&other.0, &plain.0);
                assert!(difference < TOLERANCE, "{case}, {trained}, {how}: log-probs: {difference:e}");
                for (name, gradient) in &plain.1 {
                    let difference = relative_difference(&other.1[name], gradient);
                    assert!(difference < TOLERANCE, "{case}, {trained}, {how}: {name}: {difference:e}");
                }
            }
        }
    }
}

#[test]
fn a_fresh_dora_adapter_changes_nothing_in_sixteen_bits() {
    // Rows of 1,536 weights: added in bfloat16 their squares would be a fifth short, and float16 has no square below 6e-8.
    let config = json!({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 64,
        "hidden_size": 1536, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 8,
        "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
        "rope_theta": 1e4, "hidden_act": "silu", "tie_word_embeddings": true, "initializer_range": 2e-4});
    let config = Config::from_json(config).unwrap();
    let prompt: Vec<u32> = (0..6).collect();
    let batch = PackedBatch::from_pairs([(&prompt[..], &[7u32, 9, 11][..], &[13u32, 15][..])]).unwrap();
    for dtype in [WeightDtype::Bf16, WeightDtype::F16] {
        let placement = Placement { dtype, ..Placement::default() };
        emulate(|| {
            let log_probs =
                |decoder: &Decoder| values(decoder.score(&batch, &ScoreOptions::default()).unwrap().log_probs());
            let mut decoder = Decoder::init_on(&config, 3, None, &placement).unwrap();
            let plain = log_probs(&decoder);
            let targets = vec!["all-linear".to_owned()];
            decoder.add_lora(&LoraConfig { r: 2, dora: true, targets, ..LoraConfig::default() }, 1).unwrap();
            assert_eq!(log_probs(&decoder), plain, "{dtype:?}");
            for (name, magnitude) in decoder.trainable().iter().filter(|(name, _)| name.contains("magnitude")) {
                let norms = values(&magnitude.to_dtype(DType::F32).unwrap());
                let expected = 2e-4 * if name.contains("down_proj") { 32f32 } else { 1536.0 }.sqrt();
                let bounds = if name.contains("down_proj") { 0.4..1.8 } else { 0.9..1.1 };
                let in_bounds = |norm: &f32| bounds.contains(&(norm / expected));
                assert!(name.contains("o_proj") || norms.iter().all(in_bounds), "{name}: {norms:?} {expected}");
            }
        });
    }
}
