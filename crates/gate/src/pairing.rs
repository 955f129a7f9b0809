//! Comparability of runs, and pairing by the prompts they share.

use std::collections::{BTreeMap, BTreeSet};

use smpo_stats::hierarchical::Seeds;

use crate::error::GateError;
use crate::prompts;
use crate::run::Run;

/// A prompt's identity within a suite: slice and id.
pub(crate) type PromptKey<'a> = (&'a str, &'a str);

/// The values of one metric on the prompts that every run has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Paired<'a> {
    /// The shared prompts, ascending.
    pub prompts: Vec<PromptKey<'a>>,
    /// Sample values, `[run][prompt]`; no run for an absolute bound.
    pub baseline: Vec<Vec<&'a [f64]>>,
    /// Sample values, `[run][prompt]`.
    pub candidate: Vec<Vec<&'a [f64]>>,
    /// Prompts that some run has a value for.
    pub total: usize,
}

impl<'a> Paired<'a> {
    /// Pairs by prompt. `baseline` may be empty.
    pub fn new(metric: &'a str, slice: &'a str, baseline: &'a [Run], candidate: &'a [Run]) -> Paired<'a> {
        let tables: Vec<BTreeMap<PromptKey, &[f64]>> = baseline
            .iter()
            .chain(candidate)
            .map(|run| {
                run.rows(metric, slice)
                    .map(|(row, values)| ((row.slice.as_str(), row.prompt_id.as_str()), values))
                    .collect()
            })
            .collect();
        let union: BTreeSet<PromptKey> = tables.iter().flat_map(|table| table.keys().copied()).collect();
        let prompts: Vec<PromptKey> =
            union.iter().copied().filter(|key| tables.iter().all(|table| table.contains_key(key))).collect();
        let mut runs: Vec<Vec<&[f64]>> =
            tables.iter().map(|table| prompts.iter().map(|key| table[key]).collect()).collect();
        let candidate_runs = runs.split_off(baseline.len());
        Paired { prompts, baseline: runs, candidate: candidate_runs, total: union.len() }
    }

    /// Number of shared prompts.
    pub fn n(&self) -> usize {
        self.prompts.len()
    }

    /// Share of prompts that some run lacks.
    pub fn unpaired(&self) -> f64 {
        if self.total == 0 { 0.0 } else { 1.0 - self.n() as f64 / self.total as f64 }
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
        let ids: BTreeSet<&str> = first.measurements.iter().map(|row| row.prompt_id.as_str()).collect();
        if !other.measurements.iter().any(|row| ids.contains(row.prompt_id.as_str())) {
            return Err(GateError::NoOverlap { left: first.dir.clone(), right: other.dir.clone() });
        }
    }
    Ok(())
}

fn check_distinct(runs: &[Run]) -> Result<(), GateError> {
    for (index, left) in runs.iter().enumerate() {
        for right in &runs[..index] {
            let (a, b) = (&left.manifest.model, &right.manifest.model);
            let place = |run: &Run| std::fs::canonicalize(&run.dir).unwrap_or_else(|_| run.dir.clone());
            let why = if place(left) == place(right) {
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
        (Some(a), Some(b)) if a == b && a.len() > 1 => Seeds::Paired,
        _ => Seeds::Independent,
    }
}

/// The training seed that a run's checkpoint came from.
pub(crate) fn training_seed(run: &Run) -> Option<u64> {
    run.manifest.model.training_seed
}
