//! Runs on the demo's model and pairs.

#![allow(dead_code)] // each test binary uses a part

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use smpo_fixtures::demo;
use smpo_losses::LossConfig;
use smpo_trainer::{EarlierRun, Event, Finish, StepRecord, TrainConfig, TrainConfigBuilder, TrainError, train};

/// Keys of a `[loss]` table.
pub fn loss(keys: &str) -> LossConfig {
    toml::from_str(keys).unwrap()
}

/// Modified SMPO with the default loss type.
pub const MODIFIED: &str = "kind = \"smpo\"\neos_term = \"invert\"\nlower_clip_percentile = 0.02\nmin_log_prob = -2.3";

/// A run over some of the demo's pairs.
pub fn demo_run(out: &Path, rows: usize, loss: impl Into<LossConfig>) -> TrainConfigBuilder {
    TrainConfig::builder(loss)
        .model(demo("base"))
        .output_dir(out)
        .train_files([demo("preferences.jsonl")])
        .dataset_sample(rows)
        .max_length(256)
        .seed(3)
}

/// Trains to the end of the run; the outcome and the records of its steps.
pub fn train_recording(config: &TrainConfig) -> (Result<Finish, TrainError>, Vec<StepRecord>) {
    let mut records = Vec::new();
    let finish = train(config, EarlierRun::Resume, &AtomicBool::new(false), &mut |event| {
        if let Event::Step(record) = event {
            records.push(record.clone());
        }
    });
    (finish, records)
}

/// Trains until `step` is done and stops there.
pub fn run_until(config: &TrainConfig, step: u64) {
    let stop = AtomicBool::new(false);
    let finish = train(config, EarlierRun::Resume, &stop, &mut |event| {
        if matches!(event, Event::Step(record) if record.step == step) {
            stop.store(true, Ordering::SeqCst);
        }
    });
    assert_eq!(finish.unwrap(), Finish::Stopped { step });
}

/// Trains a run that must succeed; the records of its steps.
pub fn run(config: &TrainConfig) -> Vec<StepRecord> {
    let (finish, records) = train_recording(config);
    assert!(matches!(finish.unwrap(), Finish::Done { already: false, .. }));
    records
}
