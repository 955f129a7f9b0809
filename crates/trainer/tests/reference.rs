//! The reference model of DPO and KTO: the start of training, or a model of one's own.

mod support;

use std::f64::consts::LN_2;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use smpo_data::HoldOut;
use smpo_fixtures::demo;
use smpo_trainer::{EarlierRun, Event, StepRecord, TrainConfig, TrainConfigBuilder, train};
use support::{demo_run, loss, run};
use tempfile::TempDir;

fn builder(out: &Path, kind: &str) -> TrainConfigBuilder {
    demo_run(out, 16, loss(&format!("kind = \"{kind}\"")))
        .per_device_train_batch_size(8)
        .max_steps(2)
        .learning_rate(3e-3)
}

fn first_loss(records: &[StepRecord]) -> f64 {
    records[0].metric("loss").unwrap()
}

/// Trains; what the run says of its reference.
fn said(config: &TrainConfig) -> String {
    let mut said = Vec::new();
    train(config, EarlierRun::Resume, &AtomicBool::new(false), &mut |event| {
        if let Event::Note(note) = event {
            said.push(note.to_owned());
        }
    })
    .unwrap();
    said.join("\n")
}

#[test]
fn training_from_an_adapter_refers_to_it() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let sft = builder(&path("sft"), "sft").use_peft(true).lora_r(4).build().unwrap();
    run(&sft);
    let adapter = path("sft").join("model");
    let of_adapter = |out: &str, kind: &str| builder(&path(out), kind).adapter_name_or_path(&adapter);
    for (kind, expected) in [("dpo", LN_2), ("kto", 0.5)] {
        let start = first_loss(&run(&of_adapter(kind, kind).build().unwrap()));
        assert!((start - expected).abs() < 1e-6, "{kind}: {start}");
    }
    // The bare base, if it is asked for.
    let bare = of_adapter("bare", "dpo").reference_model_name_or_path(demo("base")).build().unwrap();
    assert!((first_loss(&run(&bare)) - LN_2).abs() > 1e-3);
    // A fresh model against an adapter.
    let to_adapter = builder(&path("full"), "dpo").reference_model_name_or_path(&adapter).build().unwrap();
    assert!((first_loss(&run(&to_adapter)) - LN_2).abs() > 1e-3);
    let words = said(&of_adapter("words", "dpo").build().unwrap());
    assert!(words.contains("reference model: ") && words.contains("with the adapter"), "{words}");
    let words = said(&builder(&path("more"), "dpo").reference_model_name_or_path(&adapter).build().unwrap());
    assert!(words.contains(&format!("reference model: {}", adapter.display())), "{words}");
}

#[test]
fn a_reference_that_nothing_reads_is_refused() {
    let dir = TempDir::new().unwrap();
    let error =
        builder(dir.path(), "simpo").reference_model_name_or_path(demo("base")).build().unwrap_err().to_string();
    assert!(error.contains("loss `simpo` has no reference model"), "{error}");
}

/// Losses of a run's steps.
fn losses(records: &[StepRecord]) -> Vec<f64> {
    records.iter().filter_map(|record| record.metric("loss")).collect()
}

#[test]
fn a_reference_that_becomes_the_policy_after_each_step_is_the_policy() {
    let dir = TempDir::new().unwrap();
    let still = builder(&dir.path().join("still"), "dpo").max_steps(4);
    let still = losses(&run(&still.build().unwrap()));
    assert!(still[1..].iter().all(|loss| (loss - LN_2).abs() > 1e-3), "{still:?}");
    let synced = |out: &str, steps: u64| {
        let config = builder(&dir.path().join(out), "dpo").max_steps(4).sync_ref_model(true);
        losses(&run(&config.ref_model_mixup_alpha(1.0).ref_model_sync_steps(steps).build().unwrap()))
    };
    let each = synced("each", 1);
    assert!(each.iter().all(|loss| (loss - LN_2).abs() < 1e-6), "{each:?}");
    // after two steps: the third is at the reference again, the second and the fourth are not
    let second = synced("second", 2);
    assert_eq!(second[..2], still[..2]);
    assert!((second[2] - LN_2).abs() < 1e-6 && (second[3] - LN_2).abs() > 1e-3, "{second:?}");
}

#[test]
fn a_run_with_a_moving_reference_resumes_bit_for_bit() {
    let dir = TempDir::new().unwrap();
    let config = |out: &str| {
        let config = builder(&dir.path().join(out), "dpo").max_steps(6).test_size(HoldOut::Rows(4));
        config.sync_ref_model(true).ref_model_sync_steps(2).build().unwrap()
    };
    let whole = config("whole");
    run(&whole);
    let parts = config("parts");
    for stop_after in [1, 3, u64::MAX] {
        let stop = AtomicBool::new(false);
        train(&parts, EarlierRun::Resume, &stop, &mut |event| {
            if let Event::Step(record) = event {
                stop.store(record.step >= stop_after, Ordering::SeqCst);
            }
        })
        .unwrap();
    }
    let read = |config: &TrainConfig| std::fs::read(config.output_dir.join("model/model.safetensors")).unwrap();
    assert!(read(&whole) == read(&parts), "the weights differ");
    assert!(!whole.output_dir.join("reference").exists(), "nothing is cached of a reference that moves");
}

#[test]
fn a_moving_reference_is_refused_where_there_is_none_to_move() {
    let dir = TempDir::new().unwrap();
    let refusal = |config: TrainConfigBuilder| config.build().unwrap_err().to_string();
    let error = refusal(builder(dir.path(), "simpo").sync_ref_model(true));
    assert!(error.contains("`sync_ref_model` has no effect: loss `simpo` has no reference model"), "{error}");
    let error = refusal(builder(dir.path(), "dpo").sync_ref_model(true).use_peft(true));
    assert!(error.contains("`sync_ref_model` moves a reference with all weights"), "{error}");
    for (alpha, steps) in [(0.0, 1), (1.5, 1), (0.5, 0)] {
        let config = builder(dir.path(), "dpo").sync_ref_model(true);
        let error = refusal(config.ref_model_mixup_alpha(alpha).ref_model_sync_steps(steps));
        assert!(error.contains("ref_model_"), "{error}");
    }
    let error = refusal(builder(dir.path(), "dpo").ref_model_sync_steps(10));
    assert!(error.contains("`ref_model_sync_steps` has no effect without sync_ref_model = true"), "{error}");
    // TRL's files may list their defaults, of this release and of earlier ones.
    for steps in [512, 64] {
        builder(dir.path(), "dpo").ref_model_sync_steps(steps).build().unwrap();
    }
}
