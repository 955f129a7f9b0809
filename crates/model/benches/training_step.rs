//! One optimizer step of the demo's model on one thread: forward, backward, AdamW.
//!
//! `cargo bench -p smpo-model`; throughput counts the tokens of all sequences, shared prompts once a completion.

use std::hint::black_box;

use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use smpo_kernels::{AdamW, AdamWOptions, Parameter, weighted_sum};
use smpo_model::{Config, Decoder, PackedBatch};

const VOCABULARY: u32 = 1024;
const PAIRS: usize = 8;
const PROMPT: usize = 90;
const COMPLETION: usize = 80;

fn decoder() -> Decoder {
    let config = json!({
        "model_type": "qwen2", "vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 336,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true
    });
    Decoder::init(&Config::from_json(config).expect("a valid config"), 0).expect("fresh weights")
}

fn ids(start: usize, count: usize) -> Vec<u32> {
    (start..start + count).map(|i| (i as u32).wrapping_mul(2_654_435_761) % VOCABULARY).collect()
}

fn batch() -> PackedBatch {
    let mut builder = PackedBatch::builder();
    for pair in 0..PAIRS {
        let (prompt, chosen, rejected) = (ids(pair, PROMPT), ids(pair + 100, COMPLETION), ids(pair + 200, COMPLETION));
        builder.push_shared(&prompt, &[&chosen, &rejected]).expect("a pair");
    }
    builder.build().expect("a batch")
}

fn training_step(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let decoder = decoder();
    let batch = batch();
    let parameters = decoder
        .trainable()
        .into_iter()
        .map(|(name, var)| Parameter { name, var, decay: true, full_moments: false })
        .collect();
    let mut optimizer = AdamW::new(parameters, AdamWOptions::default()).expect("an optimizer");
    let mut gradients = optimizer.gradients().expect("gradients");
    let count = batch.targets().len();
    let weights = Tensor::from_vec(vec![-1.0 / count as f32; count], count, &Device::Cpu).expect("weights");
    let mut group = c.benchmark_group("training step, 1 thread");
    group.throughput(Throughput::Elements((PAIRS * 2 * (PROMPT + COMPLETION)) as u64));
    group.sample_size(20);
    group.bench_function("forward", |b| {
        b.iter(|| pool.install(|| black_box(decoder.frozen().log_probs(&batch).expect("log-probs"))));
    });
    let mut forward_backward = || {
        gradients.clear();
        let root = weighted_sum(&decoder.log_probs(&batch).expect("log-probs"), &weights).expect("a root");
        gradients.backward(&root).expect("gradients");
    };
    group.bench_function("forward and backward", |b| b.iter(|| pool.install(&mut forward_backward)));
    forward_backward();
    group.bench_function("update", |b| {
        b.iter(|| pool.install(|| optimizer.step(&gradients, 1e-4).expect("an update")));
    });
}

criterion_group!(benches, training_step);
criterion_main!(benches);
