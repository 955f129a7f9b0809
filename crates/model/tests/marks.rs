//! Gradients that a backward pass has finished by its way through the blocks.

mod reference;

use std::sync::{Arc, Mutex};

use reference::{Expected, case_dir, cases, perturb};
use smpo_kernels::{Gradients, emulate};
use smpo_model::{Decoder, LoraConfig, PackedBatch, ScoreOptions};

/// Runs both passes; the marks in their order, each with the gradients at it, and the gradients at the end.
#[allow(clippy::type_complexity)]
fn watched(
    decoder: &Decoder,
    batch: &PackedBatch,
    checkpointing: bool,
) -> (Vec<(usize, Vec<Option<Vec<f32>>>)>, Vec<Option<Vec<f32>>>) {
    let trainable = decoder.trainable();
    let mut gradients = Gradients::new(trainable.iter().map(|(name, var)| (name.as_str(), var))).unwrap();
    let all = move |gradients: &Gradients| -> Vec<Option<Vec<f32>>> {
        let of = |var| Some(gradients.tensor(var).unwrap()?.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        trainable.iter().map(|(_, var)| of(var)).collect()
    };
    let marks = Arc::new(Mutex::new(Vec::new()));
    let (heard, look) = (Arc::clone(&marks), all.clone());
    gradients.watch(Some(Box::new(move |mark, gradients| heard.lock().unwrap().push((mark, look(gradients))))));
    let options = ScoreOptions { checkpointing, dropout_seed: Some(3), ..Default::default() };
    let scored = decoder.score(batch, &options).unwrap();
    let weights: Vec<f32> = (0..scored.values().unwrap().len()).map(|i| ((5 * i + 2) as f32).cos()).collect();
    scored.backward(&weights, &mut gradients).unwrap();
    gradients.watch(None);
    let marks = std::mem::take(&mut *marks.lock().unwrap());
    (marks, all(&gradients))
}

fn check(what: &str, decoder: &Decoder, batch: &PackedBatch) {
    let done = decoder.gradient_marks();
    assert!(done.iter().any(Option::is_some), "{what}");
    for checkpointing in [false, true] {
        let (marks, last) = watched(decoder, batch, checkpointing);
        let numbers: Vec<usize> = marks.iter().map(|(mark, _)| *mark).collect();
        assert!(!numbers.is_empty() && numbers.is_sorted_by(|a, b| a == &(b + 1)), "{what}: {numbers:?}");
        for (mark, then) in marks {
            for ((name, _), ((done, then), last)) in decoder.trainable().iter().zip(done.iter().zip(&then).zip(&last)) {
                if done.is_some_and(|done| done >= mark) {
                    assert_eq!(then, last, "{what}, checkpointing {checkpointing}: {name} changed after mark {mark}");
                }
            }
        }
    }
}

#[test]
fn a_gradient_is_whole_at_its_mark() {
    for case in cases() {
        let batch = Expected::read(case).batch();
        for kind in ["full", "lora", "dora", "head", "last block"] {
            let mut decoder = Decoder::load(case_dir(case)).unwrap();
            let targets = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
            let lora =
                |names: &[&str]| LoraConfig { r: 2, targets: targets(names), dropout: 0.3, ..LoraConfig::default() };
            match kind {
                "lora" => decoder.add_lora(&lora(&["all-linear"]), 0).unwrap(),
                "dora" => {
                    decoder.add_lora(&LoraConfig { dora: true, ..lora(&["all-linear", "lm_head"]) }, 0).unwrap();
                }
                "head" => decoder.add_lora(&lora(&["lm_head"]), 0).unwrap(),
                "last block" => {
                    let last = format!("model.layers.{}.*", decoder.spec().layers.len() - 1);
                    decoder.train_only(&[last, "model.norm".into()]).unwrap();
                }
                _ => {}
            }
            if decoder.lora().is_some() {
                perturb(&decoder);
            }
            check(&format!("{case}, {kind}"), &decoder, &batch);
        }
    }
    let decoder = Decoder::load(smpo_fixtures::demo("base")).unwrap();
    emulate(|| check("emulated", &decoder, &Expected::read("qwen2").batch()));
}
