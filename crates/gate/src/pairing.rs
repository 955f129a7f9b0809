//! Comparability of runs, and pairing by the prompts they share.

use std::collections::{BTreeSet, HashMap, HashSet};

use smpo_stats::hierarchical::{Arm, Seeds};

use crate::error::GateError;
use crate::prompts;
use crate::run::Run;
use crate::shared::{PromptKey, Prompts, Values};

/// The values of one metric on the prompts that every run has.
#[derive(Debug, Clone)]
pub(crate) struct Paired<'a> {
    all: &'a Prompts<'a>,
    /// The shared prompts, ascending, as places in all prompts.
    pub prompts: Vec<usize>,
    /// The metric by run; no run for an absolute bound.
    pub baseline: Vec<Values<'a>>,
    /// The metric by run.
    pub candidate: Vec<Values<'a>>,
    /// Prompts that some run has a value for.
    pub total: usize,
}

impl<'a> Paired<'a> {
    /// Pairs runs, by their places among those of `all`, on a slice (`all`: every prompt). `baseline` may be empty.
    pub fn new(metric: &str, slice: &str, all: &'a Prompts<'a>, baseline: &[usize], candidate: &[usize]) -> Paired<'a> {
        let values = |runs: &[usize]| runs.iter().map(|&run| all.values(run, metric)).collect::<Vec<_>>();
        let (baseline, candidate) = (values(baseline), values(candidate));
        let (mut prompts, mut total) = (Vec::new(), 0);
        for prompt in (0..all.len()).filter(|&prompt| slice == "all" || all.key(prompt).0 == slice) {
            let with = baseline.iter().chain(&candidate).filter(|run| !run.of(prompt).is_empty()).count();
            total += usize::from(with > 0);
            if with == baseline.len() + candidate.len() {
                prompts.push(prompt);
            }
        }
        Paired { all, prompts, baseline, candidate, total }
    }

    /// Number of shared prompts.
    pub fn n(&self) -> usize {
        self.prompts.len()
    }

    /// Share of prompts that some run lacks.
    pub fn unpaired(&self) -> f64 {
        if self.total == 0 { 0.0 } else { 1.0 - self.n() as f64 / self.total as f64 }
    }

    /// Slice and id of a shared prompt.
    pub fn key(&self, prompt: usize) -> PromptKey<'a> {
        self.all.key(prompt)
    }

    /// A run's samples of each shared prompt.
    pub fn samples<'s>(&'s self, run: &'s Values<'a>) -> impl Iterator<Item = &'a [f64]> + 's {
        self.prompts.iter().map(move |&prompt| run.of(prompt))
    }

    /// Runs with their samples of each shared prompt.
    pub fn arm(&self, runs: &[Values<'a>]) -> Arm<'a> {
        Arm { runs: runs.iter().map(|run| self.samples(run).collect()).collect() }
    }
}

/// Refuses runs that differ in suite, sampler or another field that must agree, and checkpoints that occur twice in an
/// arm.
pub(crate) fn check_comparable(baseline: &[Run], candidate: &[Run]) -> Result<(), GateError> {
    for (arm, runs) in [("baseline", baseline), ("candidate", candidate)] {
        if runs.is_empty() {
            return Err(GateError::EmptyArm { arm });
        }
        check_distinct(runs)?;
    }
    let first = &baseline[0];
    let ours: HashSet<PromptKey<'_>> = keys(first).collect();
    for other in baseline.iter().chain(candidate).skip(1) {
        if let Some((field, left, right)) = first.manifest.incomparable(&other.manifest) {
            return Err(GateError::Incomparable {
                left: first.dir.clone(),
                right: other.dir.clone(),
                field: field.to_owned(),
                left_value: left,
                right_value: right,
            });
        }
        prompts::check_same(first, other)?;
        if !keys(other).any(|key| ours.contains(&key)) {
            return Err(nothing_shared(first, other));
        }
    }
    Ok(())
}

/// The refusal of runs without a common prompt: the same ids may be there under other slices.
fn nothing_shared(first: &Run, other: &Run) -> GateError {
    let (left, right) = (first.dir.clone(), other.dir.clone());
    let slice_of: HashMap<&str, &str> = keys(first).map(|(slice, id)| (id, slice)).collect();
    match keys(other).find_map(|(slice, id)| Some((id, [*slice_of.get(id)?, slice]))) {
        Some((id, slices)) => {
            let slices = Box::new(slices.map(str::to_owned));
            GateError::OtherSlices { left, right, prompt_id: id.to_owned(), slices }
        }
        None => {
            let first_id = |run: &Run| keys(run).next().map(|(_, id)| id.to_owned());
            let ids = [first, other].into_iter().filter_map(first_id).collect();
            GateError::NoOverlap { left, right, ids, same_text: prompts::share_a_text(first, other) }
        }
    }
}

/// Slice and id of each prompt of a run.
pub(crate) fn keys(run: &Run) -> impl Iterator<Item = PromptKey<'_>> {
    (0..run.measurements.len()).map(|row| run.measurements.key(row))
}

fn check_distinct(runs: &[Run]) -> Result<(), GateError> {
    for (index, left) in runs.iter().enumerate() {
        for right in &runs[..index] {
            let (a, b) = (&left.manifest.model, &right.manifest.model);
            let why = if left.place() == right.place() {
                "the same directory"
            } else if a.weights_sha256.is_some() && a.weights_sha256 == b.weights_sha256 {
                "the same weights_sha256"
            } else {
                continue;
            };
            return Err(GateError::SameCheckpoint { left: right.dir.clone(), right: left.dir.clone(), why });
        }
    }
    Ok(())
}

/// Pairing of the training seeds of two arms, each sorted by seed: paired if both have the same seeds, each known and
/// once.
pub(crate) fn seeds_of(baseline: &[Run], candidate: &[Run]) -> Seeds {
    let seeds = |runs: &[Run]| -> Option<BTreeSet<u64>> {
        let set: BTreeSet<u64> = runs.iter().map(training_seed).collect::<Option<_>>()?;
        (set.len() == runs.len()).then_some(set)
    };
    match (seeds(baseline), seeds(candidate)) {
        (Some(a), Some(b)) if a == b => Seeds::Paired,
        _ => Seeds::Independent,
    }
}

/// The training seed that a run's checkpoint came from.
pub(crate) fn training_seed(run: &Run) -> Option<u64> {
    run.manifest.model.training_seed
}
