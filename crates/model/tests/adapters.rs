//! Adapters against PEFT (`golden/generate_peft.py`), and what training them touches.

mod reference;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use reference::{Expected, case_dir, cases, perturb, relative_difference, values};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use smpo_kernels::Gradients;
use smpo_model::{
    AdapterSaveOptions, Config, Decoder, LoraConfig, PackedBatch, SaveOptions, ScoreOptions, WeightDtype,
};
use tempfile::TempDir;

const TOLERANCE: f64 = 1e-5;

/// Adapter cases and their base models.
const PEFT_CASES: [(&str, &str); 9] = [
    ("peft-lora", "qwen2"),
    ("peft-dora", "qwen2-tied"),
    ("peft-fused", "phi3"),
    ("peft-patterns", "qwen2"),
    ("peft-bias", "qwen2"),
    ("peft-bias-lora", "qwen2"),
    ("peft-olora", "qwen2"),
    ("peft-pissa", "qwen2"),
    ("peft-delta", "qwen3_5"),
];

fn adapted(case: &str, base: &str) -> Decoder {
    let mut decoder = Decoder::load(case_dir(base)).unwrap();
    decoder.load_adapter(case_dir(case)).unwrap_or_else(|e| panic!("{case}: {e}"));
    decoder
}

fn lora(targets: &[&str]) -> LoraConfig {
    let targets = targets.iter().map(|t| t.to_string()).collect();
    LoraConfig { r: 2, alpha: 4.0, targets, ..LoraConfig::default() }
}

/// Log-probs, and the gradients of Σ w·log_probs by name.
fn score(decoder: &Decoder, batch: &PackedBatch, options: &ScoreOptions<'_>) -> (Vec<f32>, HashMap<String, Vec<f32>>) {
    let trainable = decoder.trainable();
    let mut gradients = Gradients::new(trainable.iter().map(|(n, v)| (n.as_str(), v))).unwrap();
    let scored = decoder.score(batch, options).unwrap();
    let log_probs = values(scored.log_probs());
    let weights: Vec<f32> = (0..log_probs.len()).map(|i| ((5 * i + 2) as f32).cos()).collect();
    scored.backward(&weights, &mut gradients).unwrap();
    let found = gradients.iter().filter_map(|(name, g)| Some((name.to_string(), g?.to_vec()))).collect();
    (log_probs, found)
}

#[test]
fn adapters_of_peft_compute_what_peft_computes() {
    for (case, base) in PEFT_CASES {
        let decoder = adapted(case, base);
        let expected = Expected::read(case);
        let batch = expected.batch();
        for checkpointing in [false, true] {
            let trainable = decoder.trainable();
            let mut gradients = Gradients::new(trainable.iter().map(|(n, v)| (n.as_str(), v))).unwrap();
            let scored = decoder.score(&batch, &ScoreOptions { checkpointing, ..Default::default() }).unwrap();
            let difference = relative_difference(&values(scored.log_probs()), &expected.log_probs());
            assert!(difference < TOLERANCE, "{case}: log-probs: {difference:e}");
            scored.backward(&expected.weights(), &mut gradients).unwrap();
            assert_eq!(trainable.len(), expected.gradients.len(), "{case}: only the adapters are trainable");
            for (name, ours) in gradients.iter() {
                let difference = relative_difference(ours.unwrap(), &expected.gradients[name]);
                assert!(difference < TOLERANCE, "{case}: gradient of {name}: {difference:e}");
            }
        }
    }
}

#[test]
fn a_saved_adapter_loads_as_it_was_and_names_what_peft_names() {
    for (case, base) in PEFT_CASES {
        let decoder = adapted(case, base);
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("adapter");
        let options = AdapterSaveOptions { base_model: base.into(), ..Default::default() };
        decoder.save_adapter(&dir, &options).unwrap();
        let batch = Expected::read(case).batch();
        let mut again = Decoder::load(case_dir(base)).unwrap();
        again.load_adapter(&dir).unwrap();
        assert_eq!(values(&again.log_probs(&batch).unwrap()), values(&decoder.log_probs(&batch).unwrap()), "{case}");

        let names = |dir: &Path| -> Vec<String> {
            let bytes = fs::read(dir.join("adapter_model.safetensors")).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            let mut names: Vec<String> = file.names().into_iter().map(String::from).collect();
            names.retain(|n| !n.ends_with("base_layer.weight"));
            names.sort();
            names
        };
        assert_eq!(names(&dir), names(&case_dir(case)), "{case}");
        let config = |dir: &Path| -> Value {
            serde_json::from_str(&fs::read_to_string(dir.join("adapter_config.json")).unwrap()).unwrap()
        };
        let (ours, theirs) = (config(&dir), config(&case_dir(case)));
        for field in [
            "peft_type",
            "r",
            "lora_alpha",
            "use_dora",
            "use_rslora",
            "base_model_name_or_path",
            "bias",
            "init_lora_weights",
        ] {
            assert_eq!(ours[field], theirs[field], "{case}: {field}");
        }
    }
}

#[test]
fn an_adapter_knows_the_base_it_was_trained_on() {
    let temp = TempDir::new().unwrap();
    let path = |name: &str| temp.path().join(name);
    let mut decoder = Decoder::load(case_dir("qwen2")).unwrap();
    decoder.save(path("half"), &SaveOptions { dtype: WeightDtype::Bf16, ..Default::default() }).unwrap();
    decoder.add_lora(&lora(&["up_proj"]), 0).unwrap();
    perturb(&decoder);
    decoder.save_adapter(path("adapter"), &AdapterSaveOptions::default()).unwrap();
    decoder.save_adapter(path("again"), &AdapterSaveOptions::default()).unwrap();
    for entry in fs::read_dir(path("adapter")).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(fs::read(path("adapter").join(&name)).unwrap(), fs::read(path("again").join(&name)).unwrap());
    }
    // The same base in bfloat16 is the same base.
    Decoder::load(path("half")).unwrap().load_adapter(path("adapter")).unwrap();
    let mut tuned = Decoder::load(case_dir("qwen2")).unwrap();
    tuned.train_only(&["up_proj".into()]).unwrap();
    perturb(&tuned);
    let error = tuned.load_adapter(path("adapter")).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "adapter_model.safetensors: tensor `model.layers.0.mlp.up_proj.weight`: the adapter was trained on another \
             base, whose weight differs from this model's"
        ),
        "{error}"
    );
    assert_eq!(tuned.lora(), None);
}

#[test]
fn target_modules_are_short_where_short_is_right() {
    let mut decoder = Decoder::load(case_dir("qwen2")).unwrap();
    decoder.add_lora(&lora(&["q_proj", "model.layers.1.mlp.*"]), 0).unwrap();
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("adapter");
    decoder.save_adapter(&dir, &AdapterSaveOptions::default()).unwrap();
    let config: Value = serde_json::from_str(&fs::read_to_string(dir.join("adapter_config.json")).unwrap()).unwrap();
    let expected =
        json!(["model.layers.1.mlp.down_proj", "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj", "q_proj"]);
    assert_eq!(config["target_modules"], expected);
}

#[test]
fn merging_keeps_the_log_probs() {
    for (case, base) in PEFT_CASES {
        let mut decoder = adapted(case, base);
        let batch = Expected::read(case).batch();
        let before = values(&decoder.log_probs(&batch).unwrap());
        decoder.merge_lora().unwrap();
        assert_eq!(decoder.lora(), None);
        let difference = relative_difference(&values(&decoder.log_probs(&batch).unwrap()), &before);
        assert!(difference < TOLERANCE, "{case}: {difference:e}");
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("model");
        decoder.save(&dir, &SaveOptions::default()).unwrap();
        let again = Decoder::load(&dir).unwrap();
        let difference = relative_difference(&values(&again.log_probs(&batch).unwrap()), &before);
        assert!(difference < TOLERANCE, "{case}: saved: {difference:e}");
    }
}

#[test]
fn merging_an_adapted_tied_head_unties_it() {
    let mut decoder = Decoder::load(case_dir("qwen2-tied")).unwrap();
    decoder.add_lora(&lora(&["lm_head"]), 0).unwrap();
    perturb(&decoder);
    let batch = Expected::read("qwen2-tied").batch();
    let before = values(&decoder.log_probs(&batch).unwrap());
    decoder.merge_lora().unwrap();
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("model");
    decoder.save(&dir, &SaveOptions::default()).unwrap();
    assert!(!Config::from_dir(&dir).unwrap().spec().tied);
    let again = Decoder::load(&dir).unwrap();
    let difference = relative_difference(&values(&again.log_probs(&batch).unwrap()), &before);
    assert!(difference < TOLERANCE, "{difference:e}");
}

#[test]
fn a_fresh_adapter_changes_nothing_and_depends_on_the_seed() {
    let batch = Expected::read("gemma2").batch();
    let plain = Decoder::load(case_dir("gemma2")).unwrap();
    for dora in [false, true] {
        let mut decoder = plain.clone();
        decoder.add_lora(&LoraConfig { dora, ..lora(&["all-linear"]) }, 1).unwrap();
        let difference = relative_difference(
            &values(&decoder.log_probs(&batch).unwrap()),
            &values(&plain.log_probs(&batch).unwrap()),
        );
        assert!(difference < TOLERANCE, "dora {dora}: {difference:e}");
    }
    let drawn = |seed| {
        let mut decoder = plain.clone();
        decoder.add_lora(&lora(&["q_proj"]), seed).unwrap();
        decoder.trainable().iter().map(|(_, v)| values(v)).collect::<Vec<_>>()
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
}

/// Every family × {full, LoRA, DoRA, head} × {plain, checkpointed}: each trainable variable has a finite gradient that
/// is not zero, nothing else has one, and checkpointing changes neither values nor gradients.
#[test]
fn gradients_reach_what_is_trained_and_nothing_else() {
    for case in cases() {
        let batch = Expected::read(case).batch();
        for kind in ["full", "lora", "dora", "head"] {
            let mut decoder = Decoder::load(case_dir(case)).unwrap();
            match kind {
                "full" => {}
                "lora" => decoder.add_lora(&lora(&["all-linear"]), 0).unwrap(),
                "dora" => decoder.add_lora(&LoraConfig { dora: true, ..lora(&["all-linear", "lm_head"]) }, 0).unwrap(),
                _ => decoder.add_lora(&lora(&["lm_head"]), 0).unwrap(),
            }
            if kind != "full" {
                perturb(&decoder);
            }
            let names: Vec<String> = decoder.trainable().into_iter().map(|(n, _)| n).collect();
            assert!(kind == "full" || names.iter().all(|n| n.contains(".lora_")), "{case} {kind}");
            let (log_probs, gradients) = score(&decoder, &batch, &ScoreOptions::default());
            // An expert that no token has reached.
            let idle = names.iter().filter(|name| name.contains(".experts.") && !gradients.contains_key(*name)).count();
            assert_eq!(gradients.len() + idle, names.len(), "{case} {kind}: some variable has no gradient");
            for (name, gradient) in &gradients {
                assert!(gradient.iter().all(|g| g.is_finite()), "{case} {kind}: {name}");
                assert!(gradient.iter().any(|g| *g != 0.0), "{case} {kind}: {name} is all zero");
            }

            let options = ScoreOptions { checkpointing: true, ..Default::default() };
            let (again, recomputed) = score(&decoder, &batch, &options);
            assert_eq!(again, log_probs, "{case} {kind}: checkpointed log-probs");
            for (name, gradient) in &recomputed {
                let difference = relative_difference(gradient, &gradients[name]);
                assert!(difference < 1e-6, "{case} {kind}: checkpointed gradient of {name}: {difference:e}");
            }
        }
    }
}

#[test]
fn dropout_follows_its_seed_through_recomputation() {
    let batch = Expected::read("qwen3").batch();
    for dora in [false, true] {
        let mut decoder = Decoder::load(case_dir("qwen3")).unwrap();
        decoder.add_lora(&LoraConfig { dora, dropout: 0.5, ..lora(&["all-linear", "lm_head"]) }, 0).unwrap();
        perturb(&decoder);
        let with = |dropout_seed, checkpointing| {
            score(&decoder, &batch, &ScoreOptions { dropout_seed, checkpointing, ..Default::default() })
        };
        let (none, _) = with(None, false);
        let (one, gradients) = with(Some(1), false);
        assert_ne!(one, none);
        assert_ne!(one, with(Some(2), false).0);
        assert_eq!(one, with(Some(1), false).0);
        let (again, recomputed) = with(Some(1), true);
        assert_eq!(one, again);
        for (name, gradient) in &recomputed {
            assert!(relative_difference(gradient, &gradients[name]) < 1e-6, "dora {dora}: {name}");
        }
        assert_eq!(none, values(&decoder.log_probs(&batch).unwrap()), "scoring without a seed drops nothing");
    }
}

#[test]
fn terminators_are_rated_with_and_without_checkpointing() {
    let batch = Expected::read("llama").batch();
    let decoder = Decoder::load(case_dir("llama")).unwrap();
    let rated = |checkpointing| {
        let options = ScoreOptions { checkpointing, terminators: &[3, 5], ..Default::default() };
        decoder.score(&batch, &options).unwrap().terminators().to_vec()
    };
    assert_eq!(rated(false).len(), batch.targets().len());
    assert_eq!(rated(false), rated(true));
}

#[test]
fn part_of_the_weights_can_be_trained() {
    let mut decoder = Decoder::load(case_dir("qwen2")).unwrap();
    decoder.train_only(&["model.layers.1.*".into()]).unwrap();
    let batch = Expected::read("qwen2").batch();
    let (_, gradients) = score(&decoder, &batch, &ScoreOptions::default());
    assert!(!gradients.is_empty() && gradients.keys().all(|n| n.starts_with("model.layers.1.")));
    let mut tied = Decoder::load(case_dir("qwen2-tied")).unwrap();
    tied.set_trainable(|name| name == "model.embed_tokens.weight").unwrap();
    let (_, gradients) = score(&tied, &batch, &ScoreOptions::default());
    // The gradient of the embedding holds the head's part, as when all is trained.
    let (_, all) = score(&Decoder::load(case_dir("qwen2-tied")).unwrap(), &batch, &ScoreOptions::default());
    let name = "model.embed_tokens.weight";
    assert_eq!(gradients.keys().collect::<Vec<_>>(), [name]);
    assert!(relative_difference(&gradients[name], &all[name]) < 1e-6);
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_name() {
    let temp = TempDir::new().unwrap();
    let refusal = |case: &str, base: &str, damage: &dyn Fn(&mut Value)| -> String {
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(case_dir(case).join(file), temp.path().join(file)).unwrap();
        }
        let path = temp.path().join("adapter_config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        damage(&mut config);
        fs::write(&path, config.to_string()).unwrap();
        let mut decoder = Decoder::load(case_dir(base)).unwrap();
        let error = decoder.load_adapter(temp.path()).expect_err("expected a refusal").to_string();
        assert_eq!(decoder.lora(), None);
        error.replace(&temp.path().display().to_string(), "DIR")
    };
    let unchanged = |_: &mut Value| {};
    let other_base = refusal("peft-lora", "mistral", &unchanged);
    assert!(
        other_base.contains("tensor `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight`: expected shape [32, 3], got [16, 3]"),
        "{other_base}"
    );
    let mut same_shapes = Decoder::load(case_dir("qwen2")).unwrap();
    perturb(&same_shapes);
    let error = same_shapes.load_adapter(case_dir("peft-lora")).unwrap_err().to_string();
    assert!(error.contains("tensor `lm_head.weight`: the adapter was trained on another base"), "{error}");
    let fewer_layers = refusal("peft-fused", "longrope", &unchanged);
    assert!(
        fewer_layers.contains("unexpected tensors: `base_model.model.model.layers.1.mlp.gate_up_proj.lora_A.weight`")
    );
    let rank = refusal("peft-dora", "qwen2-tied", &|c| c["r"] = json!(3));
    assert!(rank.contains("expected shape [3, 16], got [2, 16]"), "{rank}");
    let plain = refusal("peft-dora", "qwen2-tied", &|c| c["use_dora"] = json!(false));
    assert!(
        plain.contains("unexpected tensors: `base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector`"),
        "{plain}"
    );
    let bare = refusal("peft-lora", "qwen2", &|c| c["target_modules"] = json!(["q_proj", "up_proj", "not_here"]));
    assert!(
        bare.starts_with(
            "DIR/adapter_config.json: field `target_modules`: expected names of layers whose matrices are in"
        ) && bare
            .contains("got `up_proj`, and no matrices of `model.layers.0.mlp.up_proj`, `model.layers.1.mlp.up_proj`"),
        "{bare}"
    );
    for field in ["lora_alpha", "lora_dropout"] {
        let null = refusal("peft-lora", "qwen2", &|c| c[field] = Value::Null);
        assert!(null.ends_with(&format!("field `{field}`: expected a number, got null")), "{null}");
    }
    let kind = refusal("peft-lora", "qwen2", &|c| c["peft_type"] = json!("IA3"));
    assert_eq!(kind, "DIR/adapter_config.json: adapter type `IA3` is not supported");
    assert!(refusal("peft-lora", "qwen2", &|c| c["bias"] = json!("some")).contains("`bias` = `some`"));
    let rank = refusal("peft-lora", "qwen2", &|c| c["rank_pattern"] = json!({"q_proj": 4}));
    assert!(rank.contains("q_proj.lora_A.weight"), "{rank}");
    assert!(
        refusal("peft-lora", "qwen2", &|c| c["rank_pattern"] = json!({"q_proj": 0})).contains("a rank of at least 1")
    );
    assert!(refusal("peft-lora", "qwen2", &|c| c["alpha_pattern"] = json!({"q_proj": -1})).contains("above zero"));
    assert!(refusal("peft-lora", "qwen2", &|c| c["alpha_pattern"] = json!({"(": 1})).contains("expression `(`"));
    for method in ["pissa_niter_4", "loftq", "corda", "lora_ga"] {
        let error = refusal("peft-lora", "qwen2", &|c| c["init_lora_weights"] = json!(method));
        assert!(error.contains(&format!("`{method}`")), "{error}");
    }
    assert!(refusal("peft-lora", "qwen2", &|c| c["lora_dropout"] = json!(1.5)).contains("lora dropout"));

    let mut decoder = Decoder::load(case_dir("qwen2")).unwrap();
    let error = decoder.add_lora(&lora(&["qproj"]), 0).unwrap_err().to_string();
    assert!(error.contains("did you mean `q_proj`?"), "{error}");
    assert_eq!(decoder.trainable().len(), Decoder::load(case_dir("qwen2")).unwrap().trainable().len());
    let error = decoder.save_adapter(temp.path().join("a"), &AdapterSaveOptions::default()).unwrap_err().to_string();
    assert!(error.contains("one with adapters"), "{error}");
    decoder.add_lora(&lora(&["q_proj"]), 0).unwrap();
    assert!(decoder.add_lora(&lora(&["q_proj"]), 0).unwrap_err().to_string().contains("adapters already"));
    let error = decoder.save(temp.path().join("b"), &SaveOptions::default()).unwrap_err().to_string();
    assert!(error.contains("merge them"), "{error}");
    decoder.set_trainable(|_| true).unwrap();
    let error = decoder.save_adapter(temp.path().join("c"), &AdapterSaveOptions::default()).unwrap_err().to_string();
    assert!(error.contains("`model.layers.0.self_attn.q_proj.weight`"), "{error}");
    assert!(!temp.path().join("a").exists() && !temp.path().join("b").exists() && !temp.path().join("c").exists());
}

#[test]
fn a_mixture_lies_between_two_models() {
    let policy = Decoder::load(case_dir("qwen2-tied")).unwrap();
    for (_, variable) in policy.trainable() {
        variable.set(&variable.affine(1.5, 0.25).unwrap()).unwrap();
    }
    let start = Decoder::load(case_dir("qwen2-tied")).unwrap();
    let mut reference = start.frozen();
    reference.mix(&policy, 0.25).unwrap();
    let temp = TempDir::new().unwrap();
    reference.save(temp.path().join("mixed"), &SaveOptions::default()).unwrap();
    let mixed = Decoder::load(temp.path().join("mixed")).unwrap();
    for ((name, mixed), (_, start)) in mixed.trainable().iter().zip(start.trainable()) {
        // 0.25·(1.5·x + 0.25) + 0.75·x
        for (mixed, x) in values(mixed).iter().zip(values(&start)) {
            assert!((mixed - (1.125 * x + 0.0625)).abs() < 1e-6 * x.abs().max(1.0), "{name}: {mixed} of {x}");
        }
    }
    let other = Decoder::load(case_dir("qwen2")).unwrap();
    let error = reference.mix(&other, 0.5).unwrap_err().to_string();
    assert!(error.contains("parameter of the other model"), "{error}");
}
