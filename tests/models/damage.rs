//! Damaged models and half precision, through every command.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::str::contains;
use serde_json::{Value, json};
use smpo_model::WeightDtype;

use crate::{Desk, base, difference, json_of, smpo};

/// Damage to a model directory, and the error expected.
struct Damage {
    name: &'static str,
    harm: fn(&Path),
    said: &'static str,
}

fn edit_config(model: &Path, key: &str, value: Value) {
    let path = model.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

fn edit_weights(model: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = model.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

const DAMAGES: [Damage; 9] = [
    Damage {
        name: "truncated",
        harm: |model| edit_weights(model, |bytes| bytes.truncate(bytes.len() - 1000)),
        said: "model.safetensors: not a readable safetensors file: its header promises 2595328 bytes of data, but 2594328 follow; truncated?",
    },
    Damage {
        name: "header",
        harm: |model| edit_weights(model, |bytes| bytes[..8].copy_from_slice(&(1u64 << 40).to_le_bytes())),
        said: "model.safetensors: not a readable safetensors file: its header is said to take 1099511627776 bytes",
    },
    Damage {
        name: "dtype",
        harm: |model| {
            edit_weights(model, |bytes| {
                let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
                let text = String::from_utf8(bytes[8..header].to_vec()).unwrap();
                let at = text.find("\"model.norm.weight\"").unwrap();
                let dtype = 8 + at + text[at..].find("F32").unwrap();
                bytes[dtype..dtype + 3].copy_from_slice(b"I32");
            });
        },
        said: "model.safetensors: tensor `model.norm.weight`: expected float32, bfloat16 or float16, got I32",
    },
    Damage {
        name: "layers",
        harm: |model| edit_config(model, "num_hidden_layers", json!(4)),
        said: "missing tensors: `model.layers.3.self_attn.q_proj.weight`",
    },
    Damage {
        name: "heads",
        harm: |model| edit_config(model, "num_key_value_heads", json!(4)),
        said: "model.safetensors: tensor `model.layers.0.self_attn.k_proj.weight`: expected shape [128, 128], got [64, 128]",
    },
    Damage {
        name: "vocabulary",
        harm: |model| edit_config(model, "vocab_size", json!(1000)),
        said: "model.safetensors: tensor `model.embed_tokens.weight`: expected shape [1000, 128], got [1024, 128]",
    },
    Damage {
        name: "family",
        harm: |model| edit_config(model, "model_type", json!("qwen2_moe")),
        said: "config.json: model family `qwen2_moe` is not supported (it has routed experts); supported are llama",
    },
    Damage {
        name: "weights",
        harm: |model| fs::remove_file(model.join("model.safetensors")).unwrap(),
        said: "expected model.safetensors, or model.safetensors.index.json with its shards, got no file of weights",
    },
    Damage {
        name: "config",
        harm: |model| fs::write(model.join("config.json"), "{").unwrap(),
        said: "EOF while parsing an object at line 1 column 1",
    },
];

#[test]
fn damaged_models_are_refused_by_every_command_with_file_and_tensor() {
    let desk = Desk::new();
    for Damage { name, harm, said } in DAMAGES {
        let model = desk.copy(name);
        harm(&model);
        let before = desk.names();
        let out = desk.path("out");
        let refused = |command: &mut Command| {
            command.assert().code(2).stdout("").stderr(contains(said));
            assert_eq!(desk.names(), before, "{name}: nothing is written");
        };
        refused(smpo().args(["model", "info"]).arg(&model));
        refused(smpo().arg("export").arg(&model).arg("--out").arg(&out));
        refused(smpo().arg("logps").arg(&model).arg(desk.path("pairs.jsonl")).arg("--out").arg(&out));
        // Merging knows no family, and refuses what contradicts the other model.
        if !matches!(name, "layers" | "heads" | "vocabulary" | "family") {
            refused(smpo().arg("merge").arg(base()).arg(&model).arg("--out").arg(&out));
        }
    }
}

#[test]
fn a_missing_tokenizer_and_another_base_are_refused() {
    let desk = Desk::new();
    let model = desk.copy("model");
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    let logps = |model: &Path| {
        let mut command = smpo();
        command.arg("logps").arg(model).arg(desk.path("pairs.jsonl")).arg("--out").arg(desk.path("out"));
        command.assert().code(2).stdout("")
    };
    logps(&model).stderr(contains("tokenizer.json"));

    let other = desk.tuned("other", 0.01);
    let adapter = desk.adapter("adapter", false, &other.display().to_string());
    let said = "adapter_model.safetensors: tensor `model.layers.0.self_attn.q_proj.weight`: the adapter was trained on another base";
    logps(&adapter).stderr(contains(said));
    smpo().arg("export").arg(&adapter).arg("--out").arg(desk.path("out")).assert().code(2).stderr(contains(said));
    let golden = smpo_fixtures::golden("model", "");
    smpo()
        .arg("export")
        .arg(golden.join("peft-lora"))
        .arg("--base")
        .arg(base())
        .arg("--out")
        .arg(desk.path("out"))
        .assert()
        .code(2)
        .stderr(contains("tensor `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: expected shape [3, 128], got [3, 16]"));
    assert!(!desk.path("out").exists());
}

#[test]
fn half_precision_models_are_read_by_every_command() {
    let desk = Desk::new();
    let exact = desk.logps(&base(), &[]);
    for (name, dtype) in [("bfloat16", WeightDtype::Bf16), ("float16", WeightDtype::F16)] {
        let out = desk.path(name);
        smpo().arg("export").arg(base()).args(["--dtype", name, "--out"]).arg(&out).assert().success();
        let facts = json_of(smpo().args(["model", "info"]).arg(&out));
        assert_eq!((&facts["dtypes"], &facts["stored_bytes"]), (&json!([dtype.name()]), &json!(2 * 648_832)));
        assert!(difference(&exact, &desk.logps(&out, &[]), "logps") < 0.2);
    }
}
