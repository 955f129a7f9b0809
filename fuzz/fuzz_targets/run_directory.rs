//! Run directories, one of whose files lies, before the gate and on a leaderboard.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use smpo_eval::score::{CompletionFile, Store, assemble, write};
use smpo_fuzz::{Files, target};
use smpo_gate::ranking::{RankingOptions, boards};
use smpo_gate::{DecideOptions, Policy, Run, decide};
use smpo_results::EvaluationDir;

/// Completions that measure something in every column.
const COMPLETIONS: &str = include_str!("run_directory.txt");

/// With its directory: completions stay on disk.
static BASELINE: LazyLock<(Files, Run)> = LazyLock::new(|| {
    let files = evaluated("baseline");
    let run = Run::load(files.dir()).expect("a run");
    (files, run)
});
static CANDIDATE: LazyLock<Files> = LazyLock::new(|| {
    let made = evaluated("candidate");
    let read = |name| (name, std::fs::read(made.dir().join(name)).expect("a file of the run"));
    Files::with(["run.json", "measurements.jsonl", "metrics.json", "samples.jsonl"].map(read))
});
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let mut policy = Policy::load("default").expect("shipped");
    policy.resamples = 20;
    policy
});

/// The completions as `smpo score` writes them.
fn evaluated(name: &str) -> Files {
    let files = Files::new();
    let completions = files.write("completions.jsonl", COMPLETIONS.as_bytes());
    let mut store = Store::beside(files.dir());
    let file = CompletionFile::read(&completions, None, &mut store).expect("completions");
    let models = assemble(vec![file], None, Some(name), store).expect("a model").models;
    write(&EvaluationDir::new(files.dir()), &models[0]).expect("room");
    files
}

fn read(dir: &Path) {
    let Ok(run) = Run::load(dir) else { return };
    let baseline = &BASELINE.1;
    let _ = decide(&POLICY, vec![baseline.clone()], vec![run.clone()], DecideOptions::default());
    let options = RankingOptions {
        baseline: None,
        policy: Some(&*POLICY),
        resamples: 20,
        seed: 1,
        worst_per_entry: 2,
        wanted: Default::default(),
        completion_bytes: 200,
    };
    let _ = boards(vec![baseline.clone(), run], &options);
}

target!(data, {
    LazyLock::force(&BASELINE);
    CANDIDATE.replaced(data, read);
});
