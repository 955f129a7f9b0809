//! Trains the demo's base model on its preference pairs from Rust: `cargo run --release --example train [OUT]`.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use smpo_data::HoldOut;
use smpo_losses::{Loss, LossConfig, Transforms};
use smpo_trainer::{EarlierRun, Event, Finish, Schedule, TrainConfig, TrainError, train};

#[allow(dead_code, reason = "the tests include this file for `run` alone")]
fn main() -> Result<(), TrainError> {
    let out = std::env::args().nth(1).unwrap_or_else(|| "runs/example".to_owned());
    let model = run(Path::new(&out), 60)?;
    println!("{}", model.display());
    Ok(())
}

/// Trains a few steps into `out`; the trained model's directory.
pub fn run(out: &Path, steps: u64) -> Result<PathBuf, TrainError> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/demo");
    // Modified SMPO: inverted EOS term, winsorizing and a floor of the rejected log-probs.
    let config =
        TrainConfig::builder(LossConfig::from(Loss::Smpo(Default::default())).with_transforms(Transforms::modified()))
            .model(demo.join("base"))
            .train_files([demo.join("preferences.jsonl")])
            .output_dir(out)
            .learning_rate(5e-4)
            .lr_scheduler_type(Schedule::Cosine)
            .warmup_ratio(0.1)
            .max_length(256)
            .per_device_train_batch_size(8)
            .max_steps(steps)
            .test_size(HoldOut::Rows(100))
            .eval_steps(steps)
            .build()?;
    // Set by another thread or a signal handler, it ends the run after the current step with a checkpoint.
    let stop = AtomicBool::new(false);
    let finish = train(&config, EarlierRun::Resume, &stop, &mut |event| {
        if let Event::Step(record) = event
            && let Some(accuracy) = record.metric("eval_rewards/accuracies")
        {
            println!("step {}: held-out accuracy {accuracy:.3}", record.step);
        }
    })?;
    match finish {
        Finish::Done { model, .. } => Ok(model),
        Finish::Stopped { .. } => Ok(out.join("checkpoints")),
    }
}
