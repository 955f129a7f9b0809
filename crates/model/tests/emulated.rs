//! Every family on the emulated device kernels, and with recomputed blocks, against the CPU's own operations.

mod reference;

use std::collections::BTreeMap;

use candle_core::Tensor;
use reference::{Expected, case_dir, cases, models_in, relative_difference, values};
use smpo_kernels::{Gradients, emulate};
use smpo_model::{Decoder, LoraConfig, PackedBatch, ScoreOptions};

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
    let found = gradients.iter().map(|(name, values)| (name.to_owned(), values.unwrap().to_vec())).collect();
    (log_probs, found)
}

fn adapted(case: &str, dora: bool) -> Decoder {
    let mut decoder = Decoder::load(case_dir(case)).unwrap();
    let targets = vec!["all-linear".to_owned()];
    decoder.add_lora(&LoraConfig { r: 2, alpha: 4.0, dropout: 0.0, rslora: false, dora, targets }, 1).unwrap();
    // B starts at zero, where A has no gradient.
    for (name, var) in decoder.trainable().iter().filter(|(name, _)| name.contains("lora_B")) {
        let moved: Vec<f32> = (0..var.elem_count()).map(|i| 0.1 * ((i + name.len()) as f32).sin()).collect();
        var.set(&Tensor::from_vec(moved, var.shape(), var.device()).unwrap()).unwrap();
    }
    decoder
}

#[test]
fn every_family_computes_the_same_on_emulated_kernels_and_with_recomputed_blocks() {
    let wrapped = models_in("wrapped").into_iter().map(|case| format!("wrapped/{case}"));
    for case in cases().into_iter().map(str::to_owned).chain(wrapped) {
        let expected = Expected::read(&case);
        let (batch, weights) = (expected.batch(), expected.weights());
        let models = [
            ("all weights", Decoder::load(case_dir(&case)).unwrap()),
            ("LoRA", adapted(&case, false)),
            ("DoRA", adapted(&case, true)),
        ];
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
