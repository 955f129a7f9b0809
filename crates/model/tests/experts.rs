//! Models with routed experts beyond what every golden model is tested for.

mod reference;

use std::collections::HashMap;

use reference::{Expected, case_dir, perturb, relative_difference, values};
use safetensors::SafeTensors;
use smpo_kernels::Gradients;
use smpo_model::{
    AdapterInfo, AdapterSaveOptions, Config, Decoder, FourBitOptions, LoraConfig, Placement, ScoreOptions, Storage,
};

const CASES: [&str; 3] = ["qwen3_moe", "qwen3_moe-sparse", "gpt_oss"];

/// The first model of each family, and the name of its routers.
const ROUTERS: [(&str, &str); 2] = [("qwen3_moe", "gate"), ("gpt_oss", "router")];

fn lora(targets: &[&str], dropout: f64) -> LoraConfig {
    let targets = targets.iter().map(|target| target.to_string()).collect();
    LoraConfig { r: 2, alpha: 4.0, dropout, targets, ..LoraConfig::default() }
}

/// A forward and a backward pass.
struct Run {
    log_probs: Vec<f32>,
    /// Load-balancing loss.
    balance: f64,
    gradients: Vec<(String, Vec<f32>)>,
}

/// Log-probs, load-balancing loss, and the gradient of Σ w·log_probs + `factor`·loss by name.
fn run(decoder: &Decoder, expected: &Expected, weights: &[f32], checkpointing: bool, factor: f64) -> Run {
    let batch = expected.batch();
    let trainable = decoder.trainable();
    let mut gradients = Gradients::new(trainable.iter().map(|(name, var)| (&name[..], var))).unwrap();
    let options = ScoreOptions { checkpointing, dropout_seed: Some(5), balance: true, ..ScoreOptions::default() };
    let scored = decoder.score(&batch, &options).unwrap();
    let (log_probs, balance) = (values(scored.log_probs()), scored.balance().unwrap());
    scored.weigh_balance(factor);
    scored.backward(weights, &mut gradients).unwrap();
    decoder.fill_idle_experts(&mut gradients);
    let gradients = gradients.iter().map(|(name, g)| (name.to_owned(), g.unwrap().to_vec())).collect();
    Run { log_probs, balance, gradients }
}

#[test]
fn the_load_balancing_loss_and_its_gradient_are_those_of_transformers() {
    for case in CASES {
        let bytes = std::fs::read(case_dir(case).join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            file.tensor(name).unwrap().data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let (decoder, expected) = (Decoder::load(case_dir(case)).unwrap(), Expected::read(case));
        let none = vec![0.0; expected.weights().len()];
        for checkpointing in [false, true] {
            let run = run(&decoder, &expected, &none, checkpointing, 0.5);
            assert!(relative_difference(&run.log_probs, &expected.log_probs()) < 1e-5, "{case}");
            let theirs = f64::from(floats("balance.loss")[0]);
            assert!((run.balance - theirs).abs() < 1e-5 * theirs, "{case}: {} and {theirs}", run.balance);
            let mut reached = 0;
            for (name, ours) in run.gradients {
                let stored = format!("balance.grad.{name}");
                if !file.names().contains(&stored.as_str()) {
                    assert!(ours.iter().all(|g| *g == 0.0), "{case}: {name}");
                    continue;
                }
                let theirs: Vec<f32> = floats(&stored).iter().map(|g| 0.5 * g).collect();
                if theirs.iter().any(|g| *g != 0.0) {
                    reached += 1;
                    let difference = relative_difference(&ours, &theirs);
                    assert!(difference < 2e-5, "{case}, checkpointing {checkpointing}: {name}: {difference:e}");
                }
            }
            assert!(reached > 10, "{case}: {reached}");
        }
    }
}

#[test]
fn a_checkpointed_model_gives_the_values_and_gradients_of_a_plain_one() {
    for case in CASES {
        for adapted in [false, true] {
            let (mut decoder, expected) = (Decoder::load(case_dir(case)).unwrap(), Expected::read(case));
            if adapted {
                decoder.add_lora(&lora(&["all-linear"], 0.3), 1).unwrap();
                perturb(&decoder);
            }
            let weights = expected.weights();
            let plain = run(&decoder, &expected, &weights, false, 0.5);
            let recomputed = run(&decoder, &expected, &weights, true, 0.5);
            assert!(relative_difference(&plain.log_probs, &recomputed.log_probs) < 1e-6, "{case}");
            assert!((plain.balance - recomputed.balance).abs() < 1e-6, "{case}");
            for ((name, a), (_, b)) in plain.gradients.iter().zip(&recomputed.gradients) {
                assert!(relative_difference(a, b) < 2e-5, "{case}, adapted {adapted}: {name}");
            }
        }
    }
}

#[test]
fn merged_adapters_of_experts_and_routers_change_nothing() {
    for ((case, router), dora) in ROUTERS.into_iter().flat_map(|case| [(case, false), (case, true)]) {
        let (mut decoder, expected) = (Decoder::load(case_dir(case)).unwrap(), Expected::read(case));
        let targets = [router, "*.experts.[0-2].*", "q_proj"];
        decoder.add_lora(&LoraConfig { dora, ..lora(&targets, 0.0) }, 1).unwrap();
        perturb(&decoder);
        let names: Vec<String> = decoder.trainable().into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"model.layers.1.mlp.experts.2.up_proj.lora_B.weight".to_owned()), "{names:?}");
        assert!(names.contains(&format!("model.layers.0.mlp.{router}.lora_A.weight")), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("experts.3.") || name.contains("o_proj")), "{names:?}");
        let before = values(&decoder.log_probs(&expected.batch()).unwrap());
        assert!(relative_difference(&before, &expected.log_probs()) > 1e-2);
        decoder.merge_lora().unwrap();
        let after = values(&decoder.log_probs(&expected.batch()).unwrap());
        assert!(relative_difference(&after, &before) < 1e-5, "{case}, dora {dora}");
    }
}

#[test]
fn fused_adapters_of_peft_compute_what_peft_computes() {
    for (base, case) in [("qwen3_moe", "peft-experts"), ("gpt_oss", "peft-stacked")] {
        let mut decoder = Decoder::load(case_dir(base)).unwrap();
        decoder.load_adapter(case_dir(case)).unwrap();
        let expected = Expected::read(case);
        for checkpointing in [false, true] {
            let run = run(&decoder, &expected, &expected.weights(), checkpointing, 0.0);
            let difference = relative_difference(&run.log_probs, &expected.log_probs());
            assert!(difference < 1e-5, "{case}, checkpointing {checkpointing}: {difference:e}");
            let ours: HashMap<String, Vec<f32>> = run.gradients.into_iter().collect();
            let mut compared = 0;
            for (name, theirs) in &expected.gradients {
                // PEFT trains one A for gate and up.
                let own = match name.strip_suffix("gate_up_proj.lora_A.weight") {
                    None => ours[name].clone(),
                    Some(expert) => {
                        let [gate, up] =
                            ["gate", "up"].map(|layer| &ours[&format!("{expert}{layer}_proj.lora_A.weight")]);
                        gate.iter().zip(up).map(|(gate, up)| gate + up).collect()
                    }
                };
                let difference = relative_difference(&own, theirs);
                assert!(difference < 1e-5, "{case}, checkpointing {checkpointing}: {name}: {difference:e}");
                compared += 1;
            }
            // In each block A and B of query, router and the experts' down, B of gate and up, and their common A.
            assert_eq!(compared, 2 * (2 + 2 + 4 * (2 + 2 + 1)));
        }
        let temp = tempfile::TempDir::new().unwrap();
        let dir = temp.path().join("adapter");
        decoder.save_adapter(&dir, &AdapterSaveOptions { base_model: base.into(), ..Default::default() }).unwrap();
        let mut again = Decoder::load(case_dir(base)).unwrap();
        again.load_adapter(&dir).unwrap();
        let log_probs = |decoder: &Decoder| values(&decoder.log_probs(&expected.batch()).unwrap());
        assert_eq!(log_probs(&again), log_probs(&decoder));
        let info = AdapterInfo::read(case_dir(case)).unwrap();
        assert!(info.config.targets.contains(&"model.layers.1.mlp.experts.*".to_owned()), "{:?}", info.config.targets);
    }
}

#[test]
fn a_frozen_router_is_not_trained_and_gets_no_new_adapter() {
    for (case, router) in ROUTERS {
        let trained = |decoder: &Decoder| -> usize {
            let names = decoder.trainable().into_iter().map(|(name, _)| name);
            names.filter(|name| name.contains(&format!(".mlp.{router}."))).count()
        };
        let mut decoder = Decoder::load(case_dir(case)).unwrap();
        let biased = decoder.spec().experts.as_ref().unwrap().biases;
        assert_eq!(trained(&decoder), if biased { 4 } else { 2 });
        decoder.freeze_routers().unwrap();
        assert_eq!(trained(&decoder), 0);
        decoder.add_lora(&lora(&["all-linear"], 0.0), 1).unwrap();
        assert_eq!(trained(&decoder), 4);
        decoder.freeze_routers().unwrap();
        assert_eq!(trained(&decoder), 0);
        assert!(decoder.trainable().iter().any(|(name, _)| name.contains(".experts.")));
    }
    let error = Decoder::load(case_dir("qwen3")).unwrap().freeze_routers().unwrap_err().to_string();
    assert_eq!(error, "freeze_router: expected a model with routed experts, got Qwen3 without");
}

#[test]
fn experts_are_quantised_and_routers_are_not() {
    let storage = Storage::FourBit(FourBitOptions::default());
    for (case, router) in ROUTERS {
        let expected = Expected::read(case);
        let mut decoder = Decoder::load_frozen(case_dir(case), &Placement::default(), &storage).unwrap();
        let frozen = values(&decoder.log_probs(&expected.batch()).unwrap());
        let difference = relative_difference(&frozen, &expected.log_probs());
        assert!((1e-3..1.0).contains(&difference), "{case}: {difference}");
        // The router's weight can be trained: it is a tensor.
        decoder.set_trainable(|name| name.ends_with(&format!(".mlp.{router}.weight"))).unwrap();
        assert_eq!(decoder.trainable().len(), 2);
        decoder.set_trainable(|_| false).unwrap();
        decoder.add_lora(&lora(&["all-linear"], 0.0), 1).unwrap();
        perturb(&decoder);
        let before = values(&decoder.log_probs(&expected.batch()).unwrap());
        decoder.merge_lora().unwrap();
        let after = values(&decoder.log_probs(&expected.batch()).unwrap());
        assert!(relative_difference(&after, &before) < 1e-5, "{case}");
    }
}

#[test]
fn an_idle_expert_has_a_gradient_of_zero() {
    let decoder = Decoder::load(case_dir("qwen3_moe")).unwrap();
    let batch = smpo_model::PackedBatch::from_sequences([(&[1][..], &[2][..])]).unwrap();
    let trainable = decoder.trainable();
    let mut gradients = Gradients::new(trainable.iter().map(|(name, var)| (&name[..], var))).unwrap();
    decoder.score(&batch, &ScoreOptions::default()).unwrap().backward(&[1.0], &mut gradients).unwrap();
    let missing = |gradients: &Gradients| gradients.iter().filter(|(_, g)| g.is_none()).count();
    // One token, two of four experts in each of two blocks, three layers each.
    assert_eq!(missing(&gradients), 2 * 2 * 3);
    decoder.fill_idle_experts(&mut gradients);
    assert_eq!(missing(&gradients), 0);
}

#[test]
fn numbers_of_experts_out_of_range_are_refused() {
    let text = std::fs::read_to_string(case_dir("qwen3_moe").join("config.json")).unwrap();
    let refusal = |field: &str, value: serde_json::Value| {
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config[field] = value;
        Config::from_json(config).unwrap_err().to_string()
    };
    let error = refusal("num_experts_per_tok", 5.into());
    assert!(error.ends_with("field `num_experts_per_tok`: expected at most num_local_experts 4, got 5"), "{error}");
    let error = refusal("num_experts", (1 << 20).into());
    assert!(error.contains("field `num_experts`: expected at most 65536"), "{error}");
    for (field, value) in [
        ("num_experts", serde_json::json!(0)),
        ("mlp_only_layers", serde_json::json!([-1])),
        ("decoder_sparse_step", serde_json::json!(0)),
        ("moe_intermediate_size", serde_json::json!("8")),
    ] {
        assert!(refusal(field, value).contains(&format!("field `{field}`")), "{field}");
    }
}
