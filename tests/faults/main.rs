//! Faults of the machine under every command that writes: a full disk, a broken one, permissions that are lost, a kill, a power
//! loss, at each of its I/O calls below its directories. Afterwards the earlier state is whole, the exit code says that it was
//! the machine, the message names the path, and the same command once more gives the same bytes as if nothing had happened.
//!
//! By default a seeded sample of all faults; `SMPO_FAULTS=all` takes every one (`.ci/nightly faults`), `SMPO_FAULTS=n` n of each
//! kind and command, and `SMPO_FAULT_SEED` another sample.
#![cfg(target_os = "linux")]

mod scenario;
mod shim;
mod tree;

use std::time::Instant;

use smpo_fixtures::Dice;

use scenario::{Below, Scenario};
use shim::Kind;

/// Faults that are over after one call, or that stay until the process ends.
const FAULTS: [Kind; 8] = [
    Kind("eio"),
    Kind("enospc"),
    Kind("torn"),
    Kind("eacces"),
    Kind("kill"),
    Kind("term"),
    Kind("power-names"),
    Kind("power-data"),
];

/// Faults from the first call on, which change nothing.
const HARMLESS: [Kind; 5] = [Kind("short"), Kind("eintr"), Kind("clock-back"), Kind("clock-ahead"), Kind("clock-1960")];

/// The calls of `n` that are tried, in order.
fn chosen(n: usize, dice: &mut Dice, by_default: usize) -> Vec<usize> {
    let wanted = match std::env::var("SMPO_FAULTS").as_deref() {
        Ok("all") => return (1..=n).collect(),
        Ok(number) => number.parse().expect("SMPO_FAULTS is `all` or a number"),
        Err(_) => by_default,
    };
    let mut chosen: Vec<usize> = (0..wanted.min(n)).map(|_| 1 + dice.below(n)).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// Runs a scenario with every kind of fault.
fn try_all(name: &str, below: Below, kinds: &[Kind], by_default: usize) {
    let seed = std::env::var("SMPO_FAULT_SEED").map_or(23, |seed| seed.parse().expect("a seed is a number"));
    let (mut dice, mut broken) = (Dice::new(seed), Vec::new());
    let scenario = Scenario::new(name, below);
    for &kind in kinds {
        let begun = Instant::now();
        let calls = scenario.calls(kind).len();
        let chosen = if kind.is_harmless() { vec![1] } else { chosen(calls, &mut dice, by_default) };
        let failures: Vec<String> = chosen.iter().flat_map(|&at| scenario.meet(kind, at)).collect();
        println!(
            "{name:28} {:12} {calls:5} calls {:5} faults {:3} broken promises {:6.1} s",
            kind.0,
            chosen.len(),
            failures.len(),
            begun.elapsed().as_secs_f64()
        );
        broken.extend(failures);
    }
    assert!(broken.is_empty(), "{} broken promises of {name}:\n{}", broken.len(), broken.join("\n"));
}

macro_rules! scenarios {
    ($($test:ident: $name:literal, $by_default:literal;)*) => {
        $(#[test]
        fn $test() {
            let kinds = [&FAULTS[..], &HARMLESS[..]].concat();
            try_all($name, Below::Outputs, &kinds, $by_default);
        })*

        #[test]
        fn every_scenario_is_tried() {
            assert!([$($name),*].into_iter().eq(scenario::names()));
        }
    };
}

scenarios! {
    train: "train", 1;
    train_over_earlier_results: "train over earlier results", 1;
    eval: "eval", 1;
    pairs: "pairs", 1;
    score: "score", 2;
    score_of_more_than_memory_holds: "score of more than memory holds", 2;
    gate: "gate", 2;
    eval_of_a_server: "eval of a server", 1;
    merge: "merge", 2;
    export: "export", 2;
    convert: "convert", 2;
    leaderboard: "leaderboard", 2;
}

/// Models, data and runs that are there and cannot be read.
#[test]
fn inputs_that_cannot_be_read() {
    // A board does without those files of models that it cannot read (`report/leaderboard/cards.rs`).
    for name in scenario::names().filter(|name| *name != "leaderboard") {
        try_all(name, Below::Inputs, &[Kind("eio"), Kind("eacces")], 2);
    }
}

/// Rows of preferences that break off because of the machine are no fault of their file.
#[test]
fn rows_that_break_off() {
    for name in ["train", "pairs"] {
        let (scenario, kind) = (Scenario::new(name, Below::Inputs), Kind("eio"));
        let on_rows = |path: &String| path.ends_with(".jsonl");
        let tried: Vec<usize> =
            scenario.calls(kind).iter().enumerate().filter(|(_, path)| on_rows(path)).map(|(at, _)| at + 1).collect();
        assert!(!tried.is_empty(), "{name} reads no rows");
        let broken: Vec<String> = tried.into_iter().flat_map(|at| scenario.meet(kind, at)).collect();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }
}

/// Connections that are reset: nothing is lost, and nothing counted twice.
#[test]
fn connections_that_are_reset() {
    try_all("eval of a server", Below::Sockets, &[Kind("reset")], 4);
}

/// Two processes on one directory: one waits or is refused, or both write the same, file by file whole.
#[test]
fn two_processes_on_one_directory() {
    let twice = |name| {
        (0..3).flat_map({
            let scenario = Scenario::new(name, Below::Outputs);
            move |_| scenario.twice()
        })
    };
    let broken: Vec<String> = scenario::names().flat_map(twice).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
