//! Runs on a model with routed experts.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use smpo_devices::Choice;
use smpo_fixtures::demo;
use smpo_model::{Config, Decoder, SaveOptions};
use smpo_trainer::{EarlierRun, TrainConfig, TrainConfigBuilder, train};
use support::{demo_run, loss, run};
use tempfile::TempDir;

/// The demo's model as a Qwen3-MoE, with random weights.
fn model(dir: &Path, output_router_logits: bool) -> PathBuf {
    let fields = serde_json::json!({
        "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 32, "num_experts": 8,
        "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": true, "initializer_range": 0.1,
        "output_router_logits": output_router_logits
    });
    made(dir, &fields)
}

/// The same as a gpt-oss.
fn gpt_oss(dir: &Path) -> PathBuf {
    let fields = serde_json::json!({
        "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "hidden_size": 32, "intermediate_size": 16,
        "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 32, "initializer_range": 0.1
    });
    made(dir, &fields)
}

/// The demo's model with other fields, and random weights.
fn made(dir: &Path, fields: &serde_json::Value) -> PathBuf {
    let path = dir.join("base");
    if !path.exists() {
        std::fs::create_dir(&path).unwrap();
        for entry in std::fs::read_dir(demo("base")).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_none_or(|end| end != "safetensors") {
                std::fs::copy(&file, path.join(file.file_name().unwrap())).unwrap();
            }
        }
    }
    let text = std::fs::read_to_string(demo("base").join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (name, value) in fields.as_object().unwrap() {
        config[name] = value.clone();
    }
    std::fs::write(path.join("config.json"), config.to_string()).unwrap();
    let made = dir.join("made");
    Decoder::init(&Config::from_dir(&path).unwrap(), 1).unwrap().save(&made, &SaveOptions::default()).unwrap();
    std::fs::rename(made.join("model.safetensors"), path.join("model.safetensors")).unwrap();
    std::fs::remove_dir_all(made).unwrap();
    path
}

fn config(dir: &Path, out: &str) -> TrainConfigBuilder {
    demo_run(&dir.join(out), 8, loss("kind = \"smpo\""))
        .model(dir.join("base"))
        .per_device_train_batch_size(4)
        .max_steps(6)
        .learning_rate(3e-3)
}

fn balances(config: &TrainConfig) -> Vec<Option<f64>> {
    run(config).iter().filter(|record| record.update.is_some()).map(|record| record.metric("router_aux_loss")).collect()
}

fn refusal(config: &TrainConfig) -> String {
    train(config, EarlierRun::Resume, &AtomicBool::new(false), &mut |_| {}).unwrap_err().to_string()
}

#[test]
fn the_load_balancing_loss_evens_out_the_experts_where_it_has_a_coefficient() {
    let dir = TempDir::new().unwrap();
    model(dir.path(), false);
    // As in transformers: off unless config.json says otherwise.
    assert!(balances(&config(dir.path(), "off").build().unwrap()).iter().all(Option::is_none));
    let course = |out: &str, coefficient: f64| -> Vec<f64> {
        let config = config(dir.path(), out).router_aux_loss_coef(coefficient).max_steps(12).build().unwrap();
        balances(&config).into_iter().map(Option::unwrap).collect()
    };
    let (weak, strong) = (course("weak", 1e-6), course("strong", 10.0));
    // Two experts a token: 2 at best.
    assert!(strong.iter().chain(&weak).all(|loss| *loss > 1.99), "{strong:?}");
    assert_eq!(strong[0], weak[0]);
    assert!(strong[11] - 2.0 < 0.5 * (strong[0] - 2.0), "{strong:?}");
    assert!(strong[11] < weak[11], "{strong:?} and {weak:?}");

    model(dir.path(), true);
    assert!(balances(&config(dir.path(), "own").build().unwrap()).iter().all(Option::is_some));
    let off = config(dir.path(), "off-again").router_aux_loss_coef(0.0).build().unwrap();
    assert!(balances(&off).iter().all(Option::is_none));
}

#[test]
fn packs_and_checkpointing_change_neither_the_loss_nor_its_balance() {
    let dir = TempDir::new().unwrap();
    model(dir.path(), false);
    let figures = |out: &str, checkpointing: bool| -> Vec<[f64; 3]> {
        let config = config(dir.path(), out)
            .router_aux_loss_coef(0.1)
            .gradient_checkpointing(checkpointing)
            .max_steps(3)
            .build()
            .unwrap();
        let of = |record: &smpo_trainer::StepRecord| {
            let grad_norm = record.update.as_ref()?.grad_norm;
            Some([record.metric("loss")?, record.metric("router_aux_loss")?, grad_norm])
        };
        run(&config).iter().filter_map(of).collect()
    };
    let (plain, recomputed) = (figures("plain", false), figures("recomputed", true));
    assert_eq!(plain.len(), 3);
    for (a, b) in plain.iter().flatten().zip(recomputed.iter().flatten()) {
        assert!((a - b).abs() < 1e-4 * a.abs(), "{plain:?} and {recomputed:?}");
    }
}

#[test]
fn a_frozen_router_stays_and_its_adapters_are_left_out() {
    let dir = TempDir::new().unwrap();
    let base = model(dir.path(), false);
    let router = "model.layers.1.mlp.gate.weight";
    let of = |model: &Path, name: &str| -> Vec<f32> {
        let decoder = Decoder::load(model).unwrap();
        let (_, var) = decoder.trainable().into_iter().find(|(own, _)| own == name).unwrap();
        var.flatten_all().unwrap().to_vec1().unwrap()
    };
    for frozen in [false, true] {
        let config = config(dir.path(), &format!("full-{frozen}")).freeze_router(frozen).build().unwrap();
        run(&config);
        let trained = config.output_dir.join("model");
        assert_eq!(of(&trained, router) == of(&base, router), frozen);
        // One with many tokens: this router sends none to some others.
        let expert = "model.layers.1.mlp.experts.1.up_proj.weight";
        assert!(of(&trained, expert) != of(&base, expert));
    }
    let adapted = config(dir.path(), "lora").use_peft(true).lora_r(2).freeze_router(true).build().unwrap();
    run(&adapted);
    let mut decoder = Decoder::load(&base).unwrap();
    decoder.load_adapter(adapted.output_dir.join("model")).unwrap();
    let names: Vec<String> = decoder.trainable().into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().any(|name| name.contains(".experts.7.")), "{names:?}");
    assert!(!names.iter().any(|name| name.contains(".mlp.gate.")), "{names:?}");
}

#[test]
fn gpt_oss_trains_whole_and_by_adapters() {
    let dir = TempDir::new().unwrap();
    let base = gpt_oss(dir.path());
    let sinks = |decoder: &Decoder| -> Vec<f32> {
        let (_, var) = decoder.trainable().into_iter().find(|(name, _)| name.ends_with(".0.self_attn.sinks")).unwrap();
        var.to_vec1().unwrap()
    };
    let whole = config(dir.path(), "whole").router_aux_loss_coef(0.01).build().unwrap();
    let records = run(&whole);
    assert!(records.iter().filter_map(|record| record.metric("loss")).all(f64::is_finite));
    let trained = Decoder::load(whole.output_dir.join("model")).unwrap();
    assert!(sinks(&trained) != sinks(&Decoder::load(&base).unwrap()));

    let adapted = config(dir.path(), "lora").use_peft(true).lora_r(2).load_in_4bit(true).build().unwrap();
    run(&adapted);
    let adapter = adapted.output_dir.join("model");
    let mut decoder = Decoder::load(&base).unwrap();
    decoder.load_adapter(&adapter).unwrap();
    assert!(decoder.trainable().iter().any(|(name, _)| name.contains(".experts.3.up_proj.lora_B")));
    let config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(adapter.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(config["target_parameters"].as_array().unwrap().len(), 3 * 3);
}

#[test]
fn keys_of_experts_are_refused_for_a_model_without() {
    let dir = TempDir::new().unwrap();
    let plain =
        |out: &str| demo_run(&dir.path().join(out), 8, loss("kind = \"smpo\"")).learning_rate(1e-3).max_steps(1);
    let error = refusal(&plain("router").freeze_router(true).build().unwrap());
    assert!(error.contains("`freeze_router` is for models with routed experts, which "), "{error}");
    let error = refusal(&plain("coefficient").router_aux_loss_coef(0.1).build().unwrap());
    assert!(error.contains("`router_aux_loss_coef` is for models with routed experts"), "{error}");
    let error = plain("negative").router_aux_loss_coef(-1.0).build().unwrap_err().to_string();
    assert!(error.contains("`router_aux_loss_coef`"), "{error}");
    model(dir.path(), false);
    let emulated = config(dir.path(), "emulated").device(Choice::Emulated).build().unwrap();
    assert!(refusal(&emulated).contains("`device`: routed experts have no kernels for a GPU"));
}
