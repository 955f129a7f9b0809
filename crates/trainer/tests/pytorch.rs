//! Thirty steps give the losses of a PyTorch loop: same model, same rows, same order (`golden/generate.py`).

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smpo_fixtures::demo;
use smpo_trainer::TrainConfig;
use support::{MODIFIED, run};

const ROWS: usize = 40;
const SEED: u64 = 3;

fn golden(name: &str) -> PathBuf {
    smpo_fixtures::golden("trainer", name)
}

fn order() -> Value {
    let epochs: Vec<Vec<usize>> = (0..3).map(|epoch| smpo_data::order(ROWS, epoch, SEED)).collect();
    json!({"rows": ROWS, "seed": SEED, "epochs": epochs})
}

/// Trains, and reads `metrics.jsonl` back.
fn losses(dir: &Path, loss: &str) -> Vec<Value> {
    let preferences = std::fs::read_to_string(demo("preferences.jsonl")).unwrap();
    let rows: Vec<&str> = preferences.lines().take(ROWS).collect();
    std::fs::write(dir.join("pairs.jsonl"), rows.join("\n")).unwrap();
    let config = TrainConfig::builder(support::loss(loss))
        .model(demo("base"))
        .output_dir(dir.join("run"))
        .train_files([dir.join("pairs.jsonl")])
        .max_length(512)
        .max_steps(30)
        .per_device_train_batch_size(2)
        .gradient_accumulation_steps(2)
        .learning_rate(2e-4)
        .warmup_steps(3)
        .weight_decay(0.01)
        .seed(SEED)
        .build()
        .unwrap();
    run(&config);
    let metrics = std::fs::read_to_string(dir.join("run/metrics.jsonl")).unwrap();
    metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn compare(kind: &str, loss: &str) {
    let expected: Value = serde_json::from_slice(&std::fs::read(golden("pytorch.json")).unwrap()).unwrap();
    let expected = expected[kind].as_array().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let found = losses(dir.path(), loss);
    assert_eq!((found.len(), expected.len()), (30, 30));
    for (found, expected) in found.iter().zip(expected) {
        for (name, expected) in expected.as_object().unwrap() {
            let (x, y) = (found[name].as_f64().unwrap(), expected.as_f64().unwrap());
            let within = if name == "grad_norm" { 1e-3 * y } else { 1e-4 };
            assert!((x - y).abs() <= within, "{kind}, step {}: {name}: {x}, PyTorch {y}", found["step"]);
        }
    }
}

/// `UPDATE_GOLDEN=1` writes the order that `golden/generate.py` follows.
#[test]
fn the_order_is_the_one_that_pytorch_followed() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden("order.json"), format!("{}\n", order())).unwrap();
    }
    let committed: Value = serde_json::from_slice(&std::fs::read(golden("order.json")).unwrap()).unwrap();
    assert_eq!(order(), committed);
}

#[test]
fn thirty_steps_of_modified_smpo_are_pytorchs() {
    compare("smpo", MODIFIED);
}

#[test]
fn thirty_steps_of_dpo_are_pytorchs() {
    compare("dpo", "kind = \"dpo\"\n");
}

#[test]
fn every_epoch_has_every_row_once_in_an_order_of_its_own() {
    let order: Vec<Vec<usize>> = (0..3).map(|epoch| smpo_data::order(ROWS, epoch, SEED)).collect();
    for epoch in &order {
        let mut rows = epoch.clone();
        rows.sort_unstable();
        assert_eq!(rows, (0..ROWS).collect::<Vec<_>>());
    }
    assert!(order[0] != order[1] && order[1] != order[2]);
}
