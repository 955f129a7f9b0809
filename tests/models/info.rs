//! `smpo model info`.

use std::fs;

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};

use crate::{Desk, base, json_of, smpo};

#[test]
fn info_says_what_a_model_is_and_what_training_it_takes() {
    let facts = json_of(smpo().args(["model", "info"]).arg(base()));
    let expect = json!({
        "family": "qwen2", "architecture": "Qwen2ForCausalLM", "parameters": 648_832, "tied": true, "layers": 3,
        "hidden_size": 128, "intermediate_size": 320, "heads": 4, "kv_heads": 2, "head_dim": 32, "vocab_size": 1024,
        "context": 1024, "dtypes": ["float32"], "stored_bytes": 4 * 648_832, "shards": 1
    });
    for (key, value) in expect.as_object().unwrap() {
        assert_eq!(&facts[key], value, "{key}");
    }
    assert_eq!(facts["terminators"]["entries"][0]["token"], "<|im_end|>");
    assert_eq!(facts["terminators"]["entries"][0]["id"], 2);
    let plans = facts["memory"].as_array().unwrap();
    assert_eq!(plans.len(), 6, "{plans:?}");
    for plan in plans {
        let parts = ["weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes"];
        let sum: u64 = parts.iter().map(|part| plan[*part].as_u64().unwrap()).sum();
        assert_eq!(plan["total_bytes"], sum);
    }
    assert_eq!(plans[0]["optimizer_bytes"], 8 * 648_832);

    smpo()
        .args(["model", "info"])
        .arg(base())
        .assert()
        .success()
        .stdout(contains("family       qwen2 (Qwen2ForCausalLM)"))
        .stdout(contains("parameters   648,832, the head is the embedding"))
        .stdout(contains("'<|im_end|>' 2: the template's turn end, eos_token, generation_config.json, config.json"))
        .stdout(contains("Memory to train on the CPU, a pack of 2048 tokens, 1024 of them completions"))
        .stdout(contains("all weights, checkpointing"));
}

#[test]
fn info_estimates_a_training_configuration() {
    let config = smpo_fixtures::repository().join("configs/demo/modified.toml");
    let facts = json_of(smpo().args(["model", "info"]).arg(base()).arg("--config").arg(&config));
    let plans = facts["memory"].as_array().unwrap();
    // 16 pairs of prompts of 256 tokens and two completions of 256 go through the model in packs of 2,048 tokens.
    assert_eq!(plans.len(), 1);
    assert_eq!((&plans[0]["tokens"], &plans[0]["completion_tokens"]), (&json!(2048), &json!(2048 * 2 / 3 + 1)));
    assert_eq!(plans[0]["training"], "all weights");
    // The same with the keys that train less.
    let desk = Desk::new();
    let text = fs::read_to_string(&config).unwrap();
    for (keys, training, trained) in [
        ("use_peft = true\nlora_r = 8\nlora_target_modules = [\"q_proj\"]", "LoRA r 8", 3 * 8 * (128 + 128)),
        (
            "unfreeze_layers_patterns = [\"model.norm\", \"layers.2.mlp.down_proj\"]",
            "model.norm, layers.2.mlp.down_proj",
            128 + 320 * 128,
        ),
    ] {
        let path = desk.path("train.toml");
        fs::write(&path, format!("{keys}\n{text}")).unwrap();
        let facts = json_of(smpo().args(["model", "info"]).arg(base()).arg("--config").arg(&path));
        let plan = &facts["memory"][0];
        assert_eq!((&plan["training"], &plan["gradients_bytes"]), (&json!(training), &json!(4 * trained)));
    }
    smpo()
        .args(["model", "info"])
        .arg(base())
        .args(["--tokens", "64", "--config"])
        .arg(&config)
        .assert()
        .code(2)
        .stderr(contains("cannot be used with"));
}

#[test]
fn info_describes_an_adapter_on_its_base() {
    let desk = Desk::new();
    let adapter = desk.adapter("adapter", true, &base().display().to_string());
    let facts = json_of(smpo().args(["model", "info"]).arg(&adapter));
    assert_eq!((&facts["parameters"], &facts["adapter"]["use_dora"]), (&json!(648_832), &json!(true)));
    assert_eq!(facts["adapter"]["modules"].as_array().unwrap().len(), 7);
    assert_eq!(facts["memory"][2]["training"], "DoRA r 4");
    smpo().args(["model", "info"]).arg(&adapter).assert().success().stdout(contains("DoRA, r 4, alpha 8, dropout 0"));
}

#[test]
fn info_names_what_is_wrong_with_the_chat_files_and_goes_on() {
    let desk = Desk::new();
    let model = desk.copy("model");
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    smpo()
        .args(["model", "info"])
        .arg(&model)
        .assert()
        .success()
        .stdout(contains("parameters  648,832"))
        .stdout(contains("no chat").and(contains("tokenizer.json")));
}

#[test]
fn an_end_that_is_an_ordinary_word_is_warned_of() {
    let desk = Desk::new();
    let model = desk.copy("model");
    let path = model.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config["eos_token_id"] = 300.into();
    fs::write(&path, config.to_string()).unwrap();
    let warning = contains("`eos_token_id` 300 of config.json is an ordinary word");
    smpo().args(["model", "info"]).arg(&model).assert().success().stdout(contains("warning").and(warning.clone()));
    let facts = json_of(smpo().args(["model", "info"]).arg(&model));
    assert_eq!(facts["warnings"].as_array().map(Vec::len), Some(1));
    let rows = desk.path("pairs.jsonl");
    smpo().args(["data", "check"]).arg(&rows).arg("--model").arg(&model).assert().stderr(warning);
    let facts = json_of(smpo().args(["model", "info"]).arg(base()));
    assert_eq!(facts["warnings"], Value::Null);
}

/// The tokenizer is the base's where the adapter has none, the template its own where it has one, for every command.
#[test]
fn an_adapter_may_bring_a_template_alone() {
    let desk = Desk::new();
    let adapter = desk.adapter("adapter", false, &base().display().to_string());
    let own =
        fs::read_to_string(base().join("chat_template.jinja")).unwrap().replace("<|im_start|>", "Say:<|im_start|>");
    fs::write(adapter.join("chat_template.jinja"), own).unwrap();
    assert!(!adapter.join("tokenizer.json").exists());
    let facts = json_of(smpo().args(["model", "info"]).arg(&adapter));
    assert_eq!(facts["template"], adapter.join("chat_template.jinja").display().to_string());
    let whole = desk.path("whole");
    smpo().arg("export").arg(&adapter).arg("--out").arg(&whole).assert().success();
    // merged or beside its base, an adapter computes the same but for rounding; another template would be far off
    for (beside, merged) in desk.logps(&adapter, &[]).iter().zip(desk.logps(&whole, &[])) {
        assert_eq!(beside["chosen"]["ids"], merged["chosen"]["ids"]);
        let numbers = |row: &Value| serde_json::from_value::<Vec<f64>>(row["chosen"]["logps"].clone()).unwrap();
        for (a, b) in numbers(beside).into_iter().zip(numbers(&merged)) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
    let again = desk.path("again");
    smpo().arg("export").arg(&adapter).args(["--as", "adapter"]).arg("--out").arg(&again).assert().success();
    assert_eq!(desk.logps(&adapter, &[]), desk.logps(&again, &[]));
    let rows = desk.path("pairs.jsonl");
    smpo().args(["data", "check"]).arg(&rows).arg("--model").arg(&adapter).assert().success();
    // A template of its own that is broken is no missing one.
    fs::write(adapter.join("chat_template.jinja"), "{% if %}").unwrap();
    let pairs = desk.path("pairs.jsonl");
    smpo()
        .arg("logps")
        .arg(&adapter)
        .arg(pairs)
        .arg("--out")
        .arg(desk.path("x"))
        .assert()
        .code(2)
        .stderr(contains("does not parse"));
}
