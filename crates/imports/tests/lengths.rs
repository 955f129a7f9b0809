//! Null as the longest row.

#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{problems, read, value};

/// A model directory whose model has so many positions.
fn model(dir: &Path) -> String {
    std::fs::write(dir.join("config.json"), r#"{"max_position_embeddings": 4096}"#).unwrap();
    dir.display().to_string()
}

fn file(model: &str, more: &Value) -> Value {
    let mut file = json!({"model_name_or_path": model, "dataset_name": "pairs.jsonl", "max_length": null});
    file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    file
}

#[test]
fn null_is_the_models_own_length_in_trl() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    for method in ["assistant_only_loss", "precompute_ref_log_probs", "desirable_weight", "center_rewards_coefficient"]
    {
        let read = read("trl", &file(&model, &json!({method: 1})));
        assert!(read.problems.is_empty(), "{:?}", read.problems);
        assert_eq!(value(&read, "max_length"), Some(json!(4096)), "{method}");
        assert_eq!(value(&read, "max_prompt_length"), Some(json!(4095)), "{method}");
    }
    let absent = json!({"model_name_or_path": model, "dataset_name": "pairs.jsonl", "loss_type": "sigmoid"});
    assert_eq!(value(&read("trl", &absent), "max_length"), Some(json!(1024)));
    let older = file(&model, &json!({"max_seq_length": 300}));
    assert_eq!(value(&read("trl", &older), "max_length"), Some(json!(300)));
}

#[test]
fn null_is_refused_where_it_cannot_be_told() {
    let elsewhere = problems("trl", &file("org/model", &json!({"loss_type": "sigmoid"})));
    assert_eq!(elsewhere.len(), 1, "{elsewhere:?}");
    assert!(elsewhere[0].contains("org/model/config.json") && elsewhere[0].contains("write a number"), "{elsewhere:?}");
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let short = problems("trl", &file(&model, &json!({"loss_type": "simpo"})));
    assert_eq!(short, ["`max_length: null` is 512 in the trainer of CPO (SimPO): write a number of tokens"]);
}

#[test]
fn halo_and_effective_llm_alignment_have_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let own = |more: Value| {
        let mut file = json!({"model_name_or_path": model(dir.path()), "dataset": "pairs.jsonl", "max_length": null});
        file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        file
    };
    let halo = read("halo", &own(json!({"loss_type": "sigmoid"})));
    assert_eq!(value(&halo, "max_length"), Some(json!(4096)));
    let ela = read("ela", &own(json!({"loss_type": "sigmoid"})));
    assert_eq!(value(&ela, "max_length"), Some(json!(4096)));
    let smpo = problems("ela", &own(json!({"margin_min": 0.2})));
    assert!(smpo[0].contains("512 in the trainer of SMPO"), "{smpo:?}");
}
