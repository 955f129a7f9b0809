//! Twenty steps of a file of each trainer have the losses of that trainer (`golden/imports/generate.py`: which of them were
//! run and which are formulas).

mod support;

use serde_json::Value;
use smpo_fixtures::{golden, repository};
use smpo_trainer::TrainConfig;
use support::run;

const FILES: [&str; 9] =
    ["trl-dpo", "trl-simpo", "trl-cpo", "trl-orpo", "trl-kto", "axolotl", "llamafactory", "halo", "ela"];

fn losses(name: &str) -> Vec<f64> {
    let dir = tempfile::tempdir().unwrap();
    let file = golden("trainer", &format!("imports/{name}.yaml"));
    let sets = [format!("output_dir={}", dir.path().join("run").display()), "device=cpu".to_owned()];
    let read = TrainConfig::read(&file, &sets).unwrap_or_else(|error| panic!("{error}"));
    run(&read.config);
    let metrics = std::fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64();
    metrics.lines().filter_map(loss).collect()
}

#[test]
fn twenty_steps_of_each_trainers_file_have_its_losses() {
    // the paths in the files are relative to the repository
    std::env::set_current_dir(repository()).unwrap();
    let text = std::fs::read(golden("trainer", "imports/losses.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let mut wrong = Vec::new();
    for name in FILES {
        let found = losses(name);
        let expected: Vec<f64> = expected[name].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        assert_eq!((found.len(), expected.len()), (20, 20), "{name}");
        let difference = found.iter().zip(&expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        println!("{name}: largest difference {difference:.1e}");
        if difference > 1e-4 {
            wrong.push(format!("{name}: {found:?}\n  expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
