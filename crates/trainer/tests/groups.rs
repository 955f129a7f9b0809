//! Runs on groups of scored completions.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};
use smpo_fixtures::demo;
use smpo_trainer::{EarlierRun, Event, Finish, Schedule, TrainConfig, TrainConfigBuilder, train};
use support::{loss, run, run_until};
use tempfile::TempDir;

const GPO: &str = "kind = \"gpo\"\neos_term = \"invert\"\nmin_log_prob = -2.3";

/// Some of the demo's pairs as groups: pair i with the completions of pair i + 1 as third and fourth, and a row of each kind
/// that says nothing.
fn groups(dir: &Path) -> PathBuf {
    let text = std::fs::read_to_string(demo("preferences.jsonl")).unwrap();
    let pairs: Vec<Value> = text.lines().take(17).map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut rows: Vec<Value> = pairs
        .windows(2)
        .enumerate()
        .map(|(at, two)| {
            let completions = [&two[0]["chosen"], &two[0]["rejected"], &two[1]["chosen"], &two[1]["rejected"]];
            json!({"id": format!("g{at}"), "prompt": two[0]["prompt"], "completions": completions,
                "rewards": [1.0, 0.25, 0.5, at as f64 / 32.0], "finished": [true, at % 2 == 0, null, true]})
        })
        .collect();
    rows.push(json!({"prompt": "alone", "completions": ["yes"], "rewards": [1]}));
    rows.push(json!({"prompt": "tied", "completions": ["yes", "no"], "rewards": [1, 1]}));
    let path = dir.join("groups.jsonl");
    std::fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    path
}

fn config(dir: &Path, name: &str, keys: &str) -> TrainConfigBuilder {
    TrainConfig::builder(loss(keys))
        .model(demo("base"))
        .output_dir(dir.join(name))
        .train_files([groups(dir)])
        .max_length(256)
        .per_device_train_batch_size(4)
        .num_train_epochs(2.0)
        .learning_rate(5e-4)
        .seed(3)
}

fn weights(config: &TrainConfig) -> Vec<u8> {
    std::fs::read(config.output_dir.join("model/model.safetensors")).unwrap()
}

#[test]
fn groups_train_and_those_that_say_nothing_are_counted() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), "run", GPO).test_size(smpo_data::HoldOut::Rows(4)).build().unwrap();
    let mut counted = None;
    let finish = train(&config, EarlierRun::Resume, &AtomicBool::new(false), &mut |event| {
        if let Event::Data(rows) = event {
            counted = Some((rows.degenerate.to_string(), rows.unfinished, rows.train.len() + rows.held_out.len()));
        }
    });
    assert!(matches!(finish.unwrap(), Finish::Done { .. }));
    let (degenerate, unfinished, rows) = counted.unwrap();
    assert_eq!(
        degenerate,
        "2 groups left out: 1 with fewer than two completions, 1 with one reward for all completions"
    );
    assert_eq!((unfinished.grouped, rows), (8, 16));
    let text = std::fs::read_to_string(config.output_dir.join("metrics.jsonl")).unwrap();
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(steps[0]["eval_group/reward"].is_number() && steps[0]["eval_loss"].is_number(), "{}", steps[0]);
    for name in
        ["loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "group/reward_std", "unfinished/group"]
    {
        assert!(steps[1][name].is_number(), "{name}: {}", steps[1]);
    }
    let (first, last) = (&steps[0]["eval_loss"], &steps.last().unwrap()["eval_loss"]);
    assert!(last.as_f64() < first.as_f64(), "the held-out loss went from {first} to {last}");
}

#[test]
fn a_stopped_run_on_groups_ends_bit_identical() {
    let dir = TempDir::new().unwrap();
    let keys = format!("{GPO}\nkl_beta = 0.1\nlower_clip_percentile = 0.05\nwinsor_scope = {{ window = 300 }}");
    let whole = config(dir.path(), "whole", &keys).build().unwrap();
    run(&whole);
    let stopped = config(dir.path(), "stopped", &keys).build().unwrap();
    run_until(&stopped, 3);
    run(&stopped);
    assert!(weights(&whole) == weights(&stopped), "the weights differ");
}

/// One step: a learning rate and an ε as large make AdamW's first update the gradient itself.
fn one_step(config: TrainConfigBuilder) -> (f64, Vec<f32>) {
    let config = config.max_steps(1).learning_rate(1e3).adam_epsilon(1e3).lr_scheduler_type(Schedule::Constant);
    let config = config.max_grad_norm(0.0).build().unwrap();
    let loss = run(&config)[0].metric("loss").unwrap();
    let weights = |dir: &Path| -> Vec<f32> {
        let decoder = smpo_model::Decoder::load(dir).unwrap();
        decoder.trainable().iter().flat_map(|(_, var)| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    };
    let (before, after) = (weights(&demo("base")), weights(&config.output_dir.join("model")));
    (loss, before.iter().zip(&after).map(|(before, after)| before - after).collect())
}

fn assert_same(what: &str, one: &(f64, Vec<f32>), other: &(f64, Vec<f32>)) {
    assert!((one.0 - other.0).abs() < 1e-5, "{what}: losses {} and {}", one.0, other.0);
    let largest = one.1.iter().fold(0f32, |most, value| most.max(value.abs()));
    assert!(largest > 1e-3, "{what}: no gradient to compare");
    let most = one.1.iter().zip(&other.1).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(most < 4e-6 * largest.max(1.0), "{what}: gradients up to {largest} differ by {most}");
}

#[test]
fn packs_and_micro_batches_change_rounding_only() {
    let dir = TempDir::new().unwrap();
    for (index, keys) in [
        GPO.to_owned(),
        format!("{GPO}\nnormalization = \"bnpo\"\nlower_clip_percentile = 0.1\nwinsor_scope = \"step\""),
    ]
    .iter()
    .enumerate()
    {
        let whole = one_step(config(dir.path(), &format!("whole{index}"), keys).per_device_train_batch_size(8));
        let packs = config(dir.path(), &format!("packs{index}"), keys).per_device_train_batch_size(8);
        let packs = one_step(packs.max_tokens_per_pack(300));
        let micro = config(dir.path(), &format!("micro{index}"), keys).per_device_train_batch_size(1);
        let micro = one_step(micro.gradient_accumulation_steps(8));
        assert_same("packs", &whole, &packs);
        assert_same("micro-batches", &whole, &micro);
    }
}

/// The demo's pairs are groups of two: read as such, and spelled out.
#[test]
fn a_pair_is_a_group_of_two() {
    let dir = TempDir::new().unwrap();
    let text = std::fs::read_to_string(demo("preferences.jsonl")).unwrap();
    let (mut pairs, mut groups) = (String::new(), String::new());
    for line in text.lines().take(8) {
        let pair: Value = serde_json::from_str(line).unwrap();
        let group =
            json!({"prompt": pair["prompt"], "completions": [pair["chosen"], pair["rejected"]], "rewards": [7, -1]});
        pairs.push_str(&format!("{pair}\n"));
        groups.push_str(&format!("{group}\n"));
    }
    let step = |name: &str, rows: &str| {
        let path = dir.path().join(format!("{name}.jsonl"));
        std::fs::write(&path, rows).unwrap();
        one_step(config(dir.path(), name, GPO).train_files([path]).per_device_train_batch_size(8))
    };
    assert_same("groups of two", &step("pairs", &pairs), &step("spelled", &groups));
}

#[test]
fn rows_of_another_kind_and_groups_that_all_say_nothing_are_refused() {
    let dir = TempDir::new().unwrap();
    let refused = |name: &str, rows: &str, keys: &str| {
        let path = dir.path().join(format!("{name}.jsonl"));
        std::fs::write(&path, rows).unwrap();
        let config = config(dir.path(), name, keys).train_files([path]).build().unwrap();
        support::train_recording(&config).0.unwrap_err().to_string()
    };
    let group = json!({"prompt": "q", "completions": ["yes", "no"], "rewards": [1, 1]}).to_string();
    let error = refused("tied", &group, GPO);
    assert!(error.contains("1 group left out: 0 with fewer than two completions, 1 with one reward"), "{error}");
    let error = refused("sft", r#"{"prompt": "q", "completion": "a"}"#, GPO);
    assert!(error.contains("expected a group of scored completions (`prompt`, `completions`, `rewards`)"), "{error}");
    let error = refused("smpo", &group, "kind = \"smpo\"");
    assert!(error.contains("got a group of scored completions"), "{error}");
}
