//! Runs on the demo's model and pairs.

#![allow(dead_code)] // each test binary uses a part

pub mod one_step;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use smpo_collectives::Threads;
use smpo_fixtures::demo;
use smpo_losses::LossConfig;
use smpo_trainer::{
    EarlierRun, Event, Finish, Ranks, StepRecord, TrainConfig, TrainConfigBuilder, TrainError, train, train_on,
};

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

/// Results of `work`, thread by thread.
pub fn on_threads<T: Send>(world: usize, work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> =
            Threads::world_of(world).into_iter().map(|rank| scope.spawn(move || work(rank))).collect();
        started.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Results of `work` on several ranks, which are threads.
pub fn on_ranks<T: Send>(world: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    on_threads(world, |rank| work(Ranks::new(rank)))
}

/// Trains to the end of the run on several ranks, or until a step is done; the outcome of each rank, and the records of the
/// first.
pub fn train_on_ranks(
    world: usize,
    config: &TrainConfig,
    until: Option<u64>,
) -> (Vec<Result<Finish, TrainError>>, Vec<StepRecord>) {
    let outcomes = on_ranks(world, |ranks| {
        let (stop, mut records) = (AtomicBool::new(false), Vec::new());
        let finish = train_on(&ranks, config, EarlierRun::Resume, &stop, &mut |event| {
            if let Event::Step(record) = event {
                stop.fetch_or(Some(record.step) == until, Ordering::SeqCst);
                records.push(record.clone());
            }
        });
        (finish, records)
    });
    let (finishes, mut records): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
    (finishes, records.swap_remove(0))
}

/// Trains a run that must succeed on several ranks; the records of its steps.
pub fn run_on(world: usize, config: &TrainConfig) -> Vec<StepRecord> {
    let (finishes, records) = train_on_ranks(world, config, None);
    for finish in finishes {
        assert!(matches!(finish.unwrap(), Finish::Done { already: false, .. }));
    }
    records
}

/// Trains a run that must succeed; the records of its steps.
pub fn run(config: &TrainConfig) -> Vec<StepRecord> {
    let (finish, records) = train_recording(config);
    assert!(matches!(finish.unwrap(), Finish::Done { already: false, .. }));
    records
}
