//! Whole runs on the demo's base model: stopping and going on, accumulation, every objective, refusals.

mod support;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use smpo_fixtures::demo;
use smpo_trainer::{EarlierRun, Event, Finish, StepRecord, TrainConfig, TrainConfigBuilder, TrainError, train};
use support::{run, run_until};
use tempfile::TempDir;

fn config(out: &Path, loss: &str) -> TrainConfigBuilder {
    support::demo_run(out, 24, support::loss(loss))
        .per_device_train_batch_size(8)
        .num_train_epochs(2.0)
        .learning_rate(5e-4)
        .warmup_ratio(0.1)
}

fn two_epochs(out: &Path, loss: &str) -> TrainConfig {
    config(out, loss).build().unwrap()
}

fn one_step(out: &Path, loss: &str) -> TrainConfig {
    config(out, loss).max_steps(1).build().unwrap()
}

const REGULAR: &str = "kind = \"smpo\"\nloss_type = \"sigmoid\"\nbeta = 1.4";
const MODIFIED: &str = "kind = \"smpo\"\nloss_type = \"sigmoid\"\nbeta = 1.4\neos_term = \"invert\"\n\
                        lower_clip_percentile = 0.02\nmin_log_prob = -2.3";

fn grad_norm(record: &StepRecord) -> f64 {
    record.update.unwrap().grad_norm
}

fn weights(config: &TrainConfig) -> Vec<u8> {
    std::fs::read(config.output_dir.join("model/model.safetensors")).unwrap()
}

/// A run's file without the one figure that depends on the clock.
fn metrics(config: &TrainConfig) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(config.output_dir.join("metrics.jsonl")).unwrap();
    let timeless = |line: &str| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        record.as_object_mut().unwrap().remove("tokens_per_s");
        record
    };
    text.lines().map(timeless).collect()
}

#[test]
fn a_run_stopped_at_any_step_ends_bit_identical() {
    let dir = TempDir::new().unwrap();
    let loss = format!("{MODIFIED}\nwinsor_scope = {{ window = 300 }}");
    let whole = two_epochs(&dir.path().join("whole"), &loss);
    run(&whole);
    let stopped = two_epochs(&dir.path().join("stopped"), &loss);
    for stop_after in [1, 3, 4] {
        run_until(&stopped, stop_after);
    }
    run(&stopped);
    assert!(weights(&whole) == weights(&stopped), "the weights differ");
    assert_eq!(metrics(&whole), metrics(&stopped));
    let again = train(&stopped, EarlierRun::Resume, &AtomicBool::new(false), &mut |event| panic!("{event:?}"));
    assert!(matches!(again.unwrap(), Finish::Done { already: true, .. }));
}

#[test]
fn every_data_file_is_read_once_and_then_found_in_the_cache() {
    let dir = TempDir::new().unwrap();
    let mut held_out = None;
    for (name, parsed_files, tokenized_records) in [("cold", 2, 1360), ("warm", 0, 0)] {
        let config = config(&dir.path().join(name), REGULAR).max_steps(1).token_cache(dir.path().join("tokens"));
        let config = config.eval_files([demo("held_out.jsonl")]).build().unwrap();
        let mut events = Vec::new();
        train(&config, EarlierRun::Resume, &AtomicBool::new(false), &mut |event| match event {
            Event::Reading(file) if file.share == 1.0 => {
                events.push(format!("read {}", file.file.file_name().unwrap().display()));
            }
            Event::Checked(reports) => events.push(format!("checked {}", reports.len())),
            Event::Data(rows) => {
                assert_eq!((rows.work.parsed_files, rows.work.tokenized_records), (parsed_files, tokenized_records));
                assert_eq!((rows.train.len(), rows.held_out.len()), (24, 160));
                assert_eq!(*held_out.get_or_insert_with(|| rows.held_out.clone()), rows.held_out);
                events.push("drawn".to_owned());
            }
            _ => {}
        })
        .unwrap();
        let expected = ["read preferences.jsonl", "read held_out.jsonl", "checked 2", "drawn"];
        assert_eq!(events, expected[if name == "cold" { 0 } else { 2 }..]);
    }
}

#[test]
fn the_modified_loss_is_not_the_regular_one() {
    let dir = TempDir::new().unwrap();
    let regular = run(&two_epochs(&dir.path().join("regular"), REGULAR));
    let modified = run(&two_epochs(&dir.path().join("modified"), MODIFIED));
    // The first step sees the same weights: value and gradient differ by the transforms alone.
    assert_ne!(regular[0].metric("po_loss"), modified[0].metric("po_loss"));
    assert_ne!(grad_norm(&regular[0]), grad_norm(&modified[0]));
    assert_eq!(regular[0].metric("sft_chosen_loss"), modified[0].metric("sft_chosen_loss"));
    let eos = |records: &[StepRecord]| records.last().unwrap().metric("eos_logp/rejected").unwrap();
    assert!(eos(&regular) < eos(&modified), "{} {}", eos(&regular), eos(&modified));
}

/// The base as the teacher of a loss that has one.
fn with_teacher(config: TrainConfigBuilder, kind: &str) -> TrainConfigBuilder {
    if kind == "distill" { config.reference_model_name_or_path(demo("base")) } else { config }
}

#[test]
fn every_objective_trains() {
    let dir = TempDir::new().unwrap();
    // a classifier has rows of its own: tests/classification.rs
    for kind in smpo_losses::Loss::KINDS.iter().filter(|kind| **kind != "classification") {
        let loss = format!("kind = \"{kind}\"");
        let config = with_teacher(config(&dir.path().join(kind), &loss), kind);
        let records = run(&config.num_train_epochs(4.0).build().unwrap());
        let loss = |record: &StepRecord| record.metric("loss").unwrap();
        let (first, last) = (loss(&records[0]), loss(records.last().unwrap()));
        assert!(last < first, "{kind}: {first} to {last}");
    }
}

/// Every rejected answer is cut in its middle, and no chosen one.
#[test]
fn every_objective_trains_on_unfinished_completions() {
    let dir = TempDir::new().unwrap();
    let pairs = dir.path().join("loops.jsonl");
    let line = |n: usize| {
        let looping = "It is in the drawer, and in the drawer. ".repeat(20);
        format!("{{\"prompt\": \"Where is key {n}?\", \"chosen\": \"In drawer {n}.\", \"rejected\": \"{looping}\"}}\n")
    };
    std::fs::write(&pairs, (0..8).map(line).collect::<String>()).unwrap();
    let transforms = "\neos_term = \"bounded\"\nlower_clip_percentile = 0.02\nmin_log_prob = -2.3";
    // reward models and classifiers have values of whole sequences, and no log-probs
    for kind in smpo_losses::Loss::KINDS.iter().filter(|kind| !["reward", "classification"].contains(kind)) {
        let has_pairs = !["sft", "distill"].contains(kind);
        let loss = format!("kind = \"{kind}\"{}", if has_pairs { transforms } else { "" });
        let config = TrainConfig::builder(support::loss(&loss))
            .model(demo("base"))
            .output_dir(dir.path().join(kind))
            .train_files([&pairs])
            .max_length(96)
            .max_prompt_length(48)
            .per_device_train_batch_size(4)
            .learning_rate(1e-4);
        for record in run(&with_teacher(config, kind).build().unwrap()) {
            assert!(record.figures().iter().all(|(_, value)| value.is_finite()), "{kind}: {record:?}");
            assert_eq!(record.metric("eos_logp/rejected"), None, "{kind}: nothing rejected ends");
            assert!(record.metric("eos_logp/chosen").is_some() || kind == &"kto", "{kind}");
            if has_pairs && kind != &"kto" {
                let shares = ["unfinished/chosen", "unfinished/rejected"].map(|name| record.metric(name));
                assert_eq!(shares, [Some(0.0), Some(1.0)], "{kind}");
            }
        }
    }
}

/// transformers 4 keeps some models' templates where no serving engine looks.
#[test]
fn a_template_in_a_json_file_leaves_as_jinja() {
    let dir = TempDir::new().unwrap();
    let base = dir.path().join("base");
    std::fs::create_dir(&base).unwrap();
    let demo = demo("base");
    for entry in std::fs::read_dir(&demo).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), base.join(entry.file_name())).unwrap();
    }
    let template = std::fs::read_to_string(base.join("chat_template.jinja")).unwrap();
    std::fs::remove_file(base.join("chat_template.jinja")).unwrap();
    let json = serde_json::json!({"chat_template": template}).to_string();
    std::fs::write(base.join("chat_template.json"), json).unwrap();
    let config = config(&dir.path().join("run"), REGULAR).model(&base).max_steps(1).build().unwrap();
    run(&config);
    let model = config.output_dir.join("model");
    assert_eq!(std::fs::read_to_string(model.join("chat_template.jinja")).unwrap(), template);
    let read = |name: &str| std::fs::read(model.join(name)).unwrap();
    assert!(read("generation_config.json") == std::fs::read(demo.join("generation_config.json")).unwrap());
}

#[test]
fn dpo_starts_at_ln_2() {
    let dir = TempDir::new().unwrap();
    let records = run(&one_step(&dir.path().join("dpo"), "kind = \"dpo\""));
    assert!((records[0].metric("loss").unwrap() - std::f64::consts::LN_2).abs() < 1e-6);
}

#[test]
fn what_cannot_work_is_refused_and_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("run");
    let good = one_step(&out, REGULAR);
    run(&good);
    let before = weights(&good);
    let refuse = |config: TrainConfigBuilder| {
        let config = config.build().unwrap();
        train(&config, EarlierRun::Resume, &AtomicBool::new(false), &mut |_| {}).unwrap_err().to_string()
    };
    let other = refuse(config(&out, REGULAR).max_steps(1).seed(4));
    assert!(other.contains("seed") && other.contains("--restart"), "{other}");
    assert!(weights(&good) == before);

    let long = refuse(config(&dir.path().join("long"), REGULAR).max_length(4096));
    assert!(long.contains("1024 positions"), "{long}");
    let many = refuse(config(&dir.path().join("many"), REGULAR).dataset_sample(99_999));
    assert!(many.contains("at most 1200 rows"), "{many}");

    let broken = dir.path().join("broken.jsonl");
    std::fs::write(&broken, "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n{\"prompt\": \"a\", \"cho")
        .unwrap();
    let error = refuse(config(&dir.path().join("b"), REGULAR).train_files([broken]).dataset_sample(1));
    assert!(error.contains("broken.jsonl:2"), "{error}");

    let hot = config(&dir.path().join("hot"), REGULAR).learning_rate(1e30).max_grad_norm(0.0).build().unwrap();
    let error = train(&hot, EarlierRun::Resume, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    let diverged = matches!(error, TrainError::NotFinite { .. } | TrainError::Batch { .. });
    assert!(diverged, "{error}");
    assert!(!hot.output_dir.join("model").exists());
}

#[test]
fn a_half_written_checkpoint_is_no_checkpoint() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("run");
    let config = config(&out, REGULAR).save_steps(2).build().unwrap();
    run_until(&config, 4);
    std::fs::create_dir(out.join("checkpoints/.step-5.partial")).unwrap();
    let optimizer = out.join("checkpoints/step-4/optimizer.safetensors");
    let bytes = std::fs::read(&optimizer).unwrap();
    std::fs::write(&optimizer, &bytes[..bytes.len() / 2]).unwrap();
    let refused = || train(&config, EarlierRun::Resume, &AtomicBool::new(false), &mut |_| {}).unwrap_err().to_string();
    let error = refused();
    assert!(error.contains("step-4") && error.contains("damaged") && error.contains("optimizer"), "{error}");
    for file in ["model/model.safetensors", "model/config.json", "state.json"] {
        let file = out.join("checkpoints/step-4").join(file);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        let error = refused();
        assert!(error.contains("step-4: the checkpoint is damaged") && error.contains("delete this"), "{error}");
        std::fs::remove_file(&file).unwrap();
        let error = refused();
        assert!(error.contains("step-4: the checkpoint is damaged") && error.contains("delete this"), "{error}");
        std::fs::write(&file, &bytes).unwrap();
    }
    std::fs::remove_dir_all(out.join("checkpoints/step-4")).unwrap();
    let mut resumed_from = None;
    let finish = train(&config, EarlierRun::Resume, &AtomicBool::new(false), &mut |event| {
        if let Event::Started { done, .. } = event {
            resumed_from = Some(done);
        }
    });
    assert!(matches!(finish.unwrap(), Finish::Done { .. }));
    assert_eq!(resumed_from, Some(2));
}
