//! The estimate of training's memory against an allocator that counts.

use std::path::Path;

use serde_json::{Value, json};
use smpo_fixtures::CountingAllocator;
use smpo_kernels::Gradients;
use smpo_kernels::MomentFormat;
use smpo_model::{
    Config, Decoder, FrozenStorage, LoraConfig, MemoryEstimate, PackedBatch, ScoreOptions, TrainingShape,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// The configuration of a golden case, wide enough that activations outweigh fixed costs.
fn config(dir: &Path, case: &str) -> Config {
    let golden = smpo_fixtures::golden("model", case).join("config.json");
    let mut fields: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    for (name, value) in [("hidden_size", 192), ("intermediate_size", 640), ("num_attention_heads", 4)] {
        fields[name] = json!(value);
    }
    for (name, value) in [("num_key_value_heads", 2), ("head_dim", 48), ("max_position_embeddings", 2048)] {
        fields[name] = json!(value);
    }
    for (name, value) in [("num_local_experts", 8), ("num_experts_per_tok", 2), ("moe_intermediate_size", 160)] {
        fields[name] = json!(value);
    }
    for (name, value) in [("linear_num_value_heads", 4), ("linear_key_head_dim", 48), ("linear_value_head_dim", 48)] {
        fields[name] = json!(value);
    }
    std::fs::write(dir.join("config.json"), fields.to_string()).unwrap();
    Config::from_dir(dir).unwrap()
}

/// Bytes that one forward and backward pass takes at its peak, beyond model and gradients.
fn measured(decoder: &Decoder, batch: &PackedBatch, checkpointing: bool) -> usize {
    let named = decoder.trainable();
    let mut gradients = Gradients::new(named.iter().map(|(name, var)| (&name[..], var))).unwrap();
    let options = ScoreOptions { checkpointing, ..ScoreOptions::default() };
    let mut pass = || {
        let scored = decoder.score(batch, &options).unwrap();
        let weights = vec![-1.0; batch.targets().len()];
        scored.backward(&weights, &mut gradients).unwrap();
    };
    // The first pass allocates the gradients.
    pass();
    ALLOCATOR.peak(pass).0
}

/// One test: the counters are the whole process's.
#[test]
fn activations_are_estimated() {
    let dir = tempfile::tempdir().unwrap();
    let prompt: Vec<u32> = (0..200).map(|id| id % 30).collect();
    let completion: Vec<u32> = (0..600).map(|id| id % 30).collect();
    let batch =
        PackedBatch::from_pairs([(&prompt[..], &completion[..], &prompt[..]), (&prompt, &completion, &completion)])
            .unwrap();
    let lora = LoraConfig { r: 8, alpha: 8.0, targets: vec!["all-linear".into()], ..LoraConfig::default() };
    let mut out_of_bounds = Vec::new();
    let plain = ["qwen2", "phi3", "gemma3", "olmo2", "granite", "glm4", "cohere2"];
    for case in plain.into_iter().chain(["qwen3_moe", "gpt_oss", "qwen3_5"]) {
        for adapted in [false, true] {
            for checkpointing in [false, true] {
                let mut decoder = Decoder::init(&config(dir.path(), case), 0).unwrap();
                if adapted {
                    decoder.add_lora(&lora, 0).unwrap();
                }
                let shape = TrainingShape {
                    tokens: batch.tokens(),
                    completion_tokens: batch.targets().len(),
                    lora: adapted.then_some(&lora),
                    layers: &[],
                    checkpointing,
                    frozen: FrozenStorage::FLOAT32,
                    moments: MomentFormat::Single,
                    device: None,
                    processes: 1,
                };
                let estimate = MemoryEstimate::new(decoder.spec(), &shape).unwrap().activations as f64;
                let ratio = estimate / measured(&decoder, &batch, checkpointing) as f64;
                println!("{case}, adapted {adapted}, checkpointing {checkpointing}: {ratio:.3} of {estimate:.0}");
                // What two threads hold at the same time is another in each run.
                if !(0.85..1.2).contains(&ratio) {
                    out_of_bounds.push(format!("{case} {adapted} {checkpointing}: {ratio:.2}"));
                }
            }
        }
    }
    assert!(out_of_bounds.is_empty(), "{out_of_bounds:?}");
}
