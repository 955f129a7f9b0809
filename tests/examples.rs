//! The examples run.

#[path = "../examples/train.rs"]
#[allow(dead_code)] // its `main`
mod train;

#[test]
fn the_training_example_leaves_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let model = train::run(&dir.path().join("run"), 4).unwrap();
    assert!(model.join("model.safetensors").is_file() && model.join("chat_template.jinja").is_file());
    let metrics = std::fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    assert!(metrics.lines().last().unwrap().contains("eval_rewards/accuracies"), "{metrics}");
}
