//! Models with gated delta nets beyond what every golden model is tested for.

mod reference;

use reference::{Expected, case_dir, perturb, relative_difference, values};
use serde_json::{Value, json};
use smpo_kernels::Gradients;
use smpo_model::{Config, Decoder, LoraConfig, PackedBatch, ScoreOptions};

const CASES: [&str; 2] = ["qwen3_5", "qwen3_5-tied"];

/// A pair that shares its prompt, and a sequence of its own; longer than the chunks of the backward pass.
fn batch() -> PackedBatch {
    let text = |first: u32, length: u32| (0..length).map(|t| (first + t * t) % 32).collect::<Vec<u32>>();
    let mut builder = PackedBatch::builder();
    builder.push_shared(&text(3, 41), &[&text(7, 36), &text(1, 5)]).unwrap();
    builder.push_sequence(&text(9, 4), &text(2, 67)).unwrap();
    builder.build().unwrap()
}

/// Log-probs, and the gradient of a weighted sum of them by name.
fn run(decoder: &Decoder, batch: &PackedBatch, checkpointing: bool) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    let trainable = decoder.trainable();
    let mut gradients = Gradients::new(trainable.iter().map(|(name, var)| (&name[..], var))).unwrap();
    let options = ScoreOptions { checkpointing, dropout_seed: Some(5), ..ScoreOptions::default() };
    let scored = decoder.score(batch, &options).unwrap();
    let log_probs = values(scored.log_probs());
    let weights: Vec<f32> = (0..log_probs.len()).map(|index| (index as f32).cos()).collect();
    scored.backward(&weights, &mut gradients).unwrap();
    (log_probs, gradients.iter().map(|(name, g)| (name.to_owned(), g.unwrap().to_vec())).collect())
}

fn lora(targets: &[&str], dora: bool) -> LoraConfig {
    let targets = targets.iter().map(|target| target.to_string()).collect();
    LoraConfig { r: 2, alpha: 4.0, dropout: 0.3, dora, targets, ..LoraConfig::default() }
}

#[test]
fn a_checkpointed_model_gives_the_values_and_gradients_of_a_plain_one() {
    for case in CASES {
        for adapters in [None, Some(false), Some(true)] {
            let mut decoder = Decoder::load(case_dir(case)).unwrap();
            if let Some(dora) = adapters {
                decoder.add_lora(&lora(&["all-linear"], dora), 1).unwrap();
                perturb(&decoder);
            }
            let (plain, recomputed) = (run(&decoder, &batch(), false), run(&decoder, &batch(), true));
            assert!(relative_difference(&plain.0, &recomputed.0) < 1e-6, "{case} {adapters:?}");
            for ((name, a), (_, b)) in plain.1.iter().zip(&recomputed.1) {
                assert!(relative_difference(a, b) < 2e-5, "{case} {adapters:?}: {name}");
            }
        }
    }
}

#[test]
fn a_prompt_that_is_shared_gets_the_sum_of_the_gradients() {
    let decoder = Decoder::load(case_dir("qwen3_5")).unwrap();
    let text = |first: u32, length: u32| (0..length).map(|t| (first + t * t) % 32).collect::<Vec<u32>>();
    let (prompt, first, second) = (text(3, 35), text(7, 34), text(1, 5));
    let shared = PackedBatch::from_pairs([(&prompt[..], &first[..], &second[..])]).unwrap();
    let apart = PackedBatch::from_sequences([(&prompt[..], &first[..]), (&prompt[..], &second[..])]).unwrap();
    let (shared, apart) = (run(&decoder, &shared, false), run(&decoder, &apart, false));
    assert!(relative_difference(&shared.0, &apart.0) < 1e-6);
    for ((name, a), (_, b)) in shared.1.iter().zip(&apart.1) {
        assert!(relative_difference(a, b) < 1e-5, "{name}: {:e}", relative_difference(a, b));
    }
}

#[test]
fn rows_of_a_pack_do_not_see_each_other() {
    let decoder = Decoder::load(case_dir("qwen3_5")).unwrap();
    let long: Vec<u32> = (0..40).map(|t| (t * 7) % 32).collect();
    let of = |before: &[u32]| {
        let batch = PackedBatch::from_sequences([(&before[..1], &before[1..]), (&long[..3], &long[3..])]).unwrap();
        let range = batch.completions()[1].clone();
        values(&decoder.log_probs(&batch).unwrap())[range].to_vec()
    };
    assert_eq!(of(&[1, 2, 3, 4, 5, 6]), of(&[30, 9, 30, 9, 30, 9]));
}

#[test]
fn adapters_of_a_delta_net_go_by_name_and_merge() {
    for dora in [false, true] {
        let (mut decoder, expected) = (Decoder::load(case_dir("qwen3_5")).unwrap(), Expected::read("qwen3_5"));
        decoder.add_lora(&lora(&["in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj"], dora), 1).unwrap();
        decoder.set_lora_dropout(0.0);
        perturb(&decoder);
        let names: Vec<String> = decoder.trainable().into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"model.layers.0.linear_attn.in_proj_qkv.lora_B.weight".to_owned()), "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("model.layers.0.linear_attn.")), "{names:?}");
        let before = values(&decoder.log_probs(&expected.batch()).unwrap());
        assert!(relative_difference(&before, &expected.log_probs()) > 1e-2);
        decoder.merge_lora().unwrap();
        let after = values(&decoder.log_probs(&expected.batch()).unwrap());
        assert!(relative_difference(&after, &before) < 1e-5, "dora {dora}");
    }
}

#[test]
fn parts_of_a_delta_net_are_trained_by_name() {
    let mut decoder = Decoder::load(case_dir("qwen3_5")).unwrap();
    decoder.train_only(&["*.linear_attn.A_log".to_owned(), "*.conv1d.*".to_owned()]).unwrap();
    let (_, gradients) = run(&decoder, &batch(), true);
    let names: Vec<&str> = gradients.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, ["model.layers.0.linear_attn.conv1d.weight", "model.layers.0.linear_attn.A_log"]);
    assert!(gradients.iter().all(|(_, gradient)| gradient.iter().any(|value| *value != 0.0)));
}

#[test]
fn a_new_model_starts_as_transformers_starts_one() {
    let decoder = Decoder::init(&Config::from_dir(case_dir("qwen3_5")).unwrap(), 3).unwrap();
    let of = |end: &str| {
        let (_, var) = decoder.trainable().into_iter().find(|(name, _)| name.ends_with(end)).unwrap();
        values(&var)
    };
    assert_eq!(of("dt_bias"), [1.0; 4]);
    assert_eq!(of("linear_attn.norm.weight"), [1.0; 10]);
    assert_eq!(of("q_norm.weight"), [0.0; 8]);
    assert!(of("A_log").iter().all(|rate| (0.01f32.ln()..16f32.ln()).contains(rate)));
    assert!(of("conv1d.weight").iter().any(|tap| *tap != 0.0));
}

#[test]
fn flops_counted_by_hand() {
    // One block: H 8, two value heads of 4 × 6 with one key head, feed-forward 16, V 32, three taps.
    let config = json!({
        "model_type": "qwen3_5_text", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 32, "tie_word_embeddings": true,
        "linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 4, "linear_value_head_dim": 6,
        "linear_conv_kernel_dim": 3, "layer_types": ["linear_attention"], "head_dim": 8,
    });
    let decoder = Decoder::init(&Config::from_json(config).unwrap(), 0).unwrap();
    // Three tokens in, two rows out.
    let flops = decoder.flops(&PackedBatch::from_sequences([(&[1, 2][..], &[3, 4][..])]).unwrap());
    let (row, all_values) = (2 * 4 + 12, 12);
    let before = 2 * 3 * 8 * (row + all_values + 2 + 2);
    let rule = 3 * (6 * 2 * 4 * 6 + 2 * 3 * row);
    let after = 2 * 2 * (all_values * 8 + 3 * 8 * 16 + 8 * 32);
    assert_eq!(flops.forward, before + rule + after);
    assert_eq!(flops.backward, 2 * flops.forward);
}

#[test]
fn configurations_that_do_not_fit_are_refused_by_field() {
    let text = std::fs::read_to_string(case_dir("qwen3_5").join("config.json")).unwrap();
    let changed = |field: &str, value: Value| {
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config[field] = value;
        Config::from_json(config)
    };
    for (field, value, word) in [
        ("linear_num_key_heads", json!(3), "a divisor of linear_num_value_heads 4"),
        ("linear_num_value_heads", json!(0), "whole number"),
        ("linear_conv_kernel_dim", json!(65), "at most 64"),
        ("layer_types", json!(["linear_attention"]), "num_hidden_layers 2 entries"),
        ("layer_types", json!(["linear_attention", "sliding_attention"]), "layer type `sliding_attention`"),
    ] {
        let error = changed(field, value).unwrap_err().to_string();
        assert!(error.contains(word), "{field}: {error}");
    }
    let attends = |config: Config| config.spec().layers.iter().map(|layer| !layer.delta).collect::<Vec<bool>>();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config.as_object_mut().unwrap().remove("layer_types");
    config["num_hidden_layers"] = json!(5);
    assert_eq!(attends(Config::from_json(config.clone()).unwrap()), [false, false, false, true, false]);
    config["full_attention_interval"] = json!(2);
    assert_eq!(attends(Config::from_json(config).unwrap()), [false, true, false, true, false]);
}
