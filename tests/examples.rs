//! The examples of training, evaluating and gating from Rust, run on the demo's base model.

#[path = "../examples/evaluate.rs"]
mod evaluate;
#[path = "../examples/gate.rs"]
mod gate;
#[path = "../examples/train.rs"]
mod train;

use std::fs;
use std::path::Path;

use smpo_results::Decision;

#[test]
fn a_model_is_evaluated_and_gated_from_rust() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let prompts = fs::read_to_string(root.join("datasets/demo/ood.jsonl")).unwrap();
    let some: Vec<&str> = prompts.lines().step_by(20).collect();
    let suite = dir.path().join("some.jsonl");
    fs::write(&suite, some.join("\n")).unwrap();
    let out = dir.path().join("eval");
    evaluate::run(&root.join("datasets/demo/base"), &suite, &out).unwrap();
    let again = dir.path().join("again");
    evaluate::run(&root.join("datasets/demo/base"), &suite, &again).unwrap();
    let samples = |dir: &Path| fs::read(dir.join("samples.jsonl")).unwrap();
    assert_eq!(samples(&out), samples(&again));
    let verdict = gate::run(&out, &again, "smoke").unwrap();
    assert_ne!(verdict.verdict, Decision::Fail, "the same samples on both sides");
}

#[test]
fn a_model_is_trained_from_rust() {
    let dir = tempfile::tempdir().unwrap();
    let model = train::run(&dir.path().join("run"), 4).unwrap();
    assert!(model.join("model.safetensors").is_file() && model.join("chat_template.jinja").is_file());
    let metrics = fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    assert!(metrics.lines().last().unwrap().contains("eval_rewards/accuracies"), "{metrics}");
}
