//! Batches long enough that a checkpointed or frozen model runs its feed-forward layers part by part.

use candle_core::{Device, Tensor};
use serde_json::json;
use smpo_kernels::Gradients;
use smpo_model::{Config, Decoder, LoraConfig, PackedBatch, ScoreOptions};

/// More than one part, and no multiple of a part.
const PAIRS: usize = 7;

fn decoder(lora: bool) -> Decoder {
    let config = json!({
        "model_type": "qwen2", "vocab_size": 64, "hidden_size": 16, "intermediate_size": 4096, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": false, "initializer_range": 0.2
    });
    // At this width a part is 512 rows.
    let config = Config::from_json(config).unwrap();
    let mut decoder = Decoder::init(&config, 1).unwrap();
    if lora {
        let config =
            LoraConfig { r: 3, alpha: 6.0, dropout: 0.3, targets: vec!["all-linear".into()], ..LoraConfig::default() };
        decoder.add_lora(&config, 2).unwrap();
        // B starts at zero, where A has no gradient and dropout no effect.
        for (name, var) in decoder.trainable().iter().filter(|(name, _)| name.contains("lora_B")) {
            let seed = name.len() as f32;
            let values: Vec<f32> = (0..var.elem_count()).map(|i| 0.1 * (seed + i as f32).sin()).collect();
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
        }
    }
    decoder
}

fn batch() -> PackedBatch {
    let ids = |start: usize, count: usize| (start..start + count).map(|i| (i * i % 61) as u32).collect::<Vec<_>>();
    let mut builder = PackedBatch::builder();
    for pair in 0..PAIRS {
        builder.push_shared(&ids(pair, 40), &[&ids(pair + 9, 110), &ids(pair + 23, 70)]).unwrap();
    }
    builder.build().unwrap()
}

/// Log-probs, and the gradient of every trained parameter by name.
fn run(decoder: &Decoder, checkpointing: bool) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    let batch = batch();
    assert!(batch.targets().len() > 2 * 512, "several parts in the last block too");
    let trainable = decoder.trainable();
    let mut gradients = Gradients::new(trainable.iter().map(|(name, var)| (&name[..], var))).unwrap();
    let options = ScoreOptions { checkpointing, dropout_seed: Some(5), ..ScoreOptions::default() };
    let scored = decoder.score(&batch, &options).unwrap();
    let log_probs = scored.log_probs().to_vec1::<f32>().unwrap();
    let weights: Vec<f32> = (0..log_probs.len()).map(|i| (i as f32 * 0.7).sin() / 50.0).collect();
    scored.backward(&weights, &mut gradients).unwrap();
    let found = gradients.iter().map(|(name, values)| (name.to_owned(), values.unwrap().to_vec())).collect();
    (log_probs, found)
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(x, y)| x - y)) / norm(&mut a.iter().copied())
}

#[test]
fn a_checkpointed_model_gives_the_values_and_gradients_of_a_plain_one() {
    for lora in [false, true] {
        let decoder = decoder(lora);
        let (plain, checkpointed) = (run(&decoder, false), run(&decoder, true));
        assert!(distance(&plain.0, &checkpointed.0) < 1e-6, "lora {lora}: {}", distance(&plain.0, &checkpointed.0));
        for ((name, a), (_, b)) in plain.1.iter().zip(&checkpointed.1) {
            assert!(a.iter().any(|x| *x != 0.0), "{name} has no gradient");
            assert!(distance(a, b) < 1e-5, "lora {lora}, {name}: {}", distance(a, b));
        }
    }
}

#[test]
fn a_frozen_model_gives_the_values_of_a_trained_one() {
    let decoder = decoder(true);
    let batch = batch();
    let options = ScoreOptions { dropout_seed: Some(5), ..ScoreOptions::default() };
    let values = |decoder: &Decoder| decoder.score(&batch, &options).unwrap().log_probs().to_vec1::<f32>().unwrap();
    assert!(distance(&values(&decoder), &values(&decoder.frozen())) < 1e-6);
}
