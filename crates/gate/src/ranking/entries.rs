//! Grouping of runs into boards and entries.

use std::collections::BTreeSet;

use smpo_results::{EvaluationDir, Sample, read_jsonl};

use crate::error::GateError;
use crate::pairing::training_seed;
use crate::run::Run;

/// One row of a board: a checkpoint, or an arm over several training seeds.
pub(super) struct Entry {
    pub name: String,
    pub runs: Vec<Run>,
}

impl Entry {
    /// All completions, run by run. Token ids and log-probs are dropped: a board shows text.
    pub fn samples(&self) -> Result<Vec<Sample>, GateError> {
        let mut samples = Vec::new();
        for run in &self.runs {
            let path = EvaluationDir::new(&run.dir).samples();
            if !path.is_file() {
                return Err(GateError::Unfinished { dir: run.dir.clone(), missing: "samples.jsonl" });
            }
            samples.extend(read_jsonl::<Sample>(&path, "sample")?);
        }
        Ok(samples)
    }
}

/// Boards of entries, both in order of first appearance.
pub(super) fn group(runs: Vec<Run>) -> Result<Vec<Vec<Entry>>, GateError> {
    let mut boards: Vec<Vec<Entry>> = Vec::new();
    for run in runs {
        let board = match boards.iter().position(|entries| same_board(&entries[0].runs[0], &run)) {
            Some(index) => &mut boards[index],
            None => {
                boards.push(Vec::new());
                let last = boards.len() - 1;
                &mut boards[last]
            }
        };
        match board.iter_mut().find(|entry| same_arm(&entry.runs, &run)) {
            Some(entry) => entry.runs.push(run),
            None => board.push(Entry { name: String::new(), runs: vec![run] }),
        }
    }
    for entries in &mut boards {
        entries.iter_mut().for_each(|entry| entry.runs.sort_by_key(training_seed));
        name(entries);
    }
    Ok(boards)
}

/// True for runs of the same prompts and sampler. Models of different families differ in template and terminators and may
/// still share a board.
fn same_board(a: &Run, b: &Run) -> bool {
    let (x, y) = (&a.manifest, &b.manifest);
    let drawn =
        x.kind == y.kind && x.sampler == y.sampler && x.cap == y.cap && x.samples_per_prompt == y.samples_per_prompt;
    let asked = x.suite.sha256 == y.suite.sha256 || (x.kind == "score" && mostly_shared(a, b));
    drawn && asked
}

/// True if most prompts are in common: scored answers to a suite are seldom complete.
fn mostly_shared(a: &Run, b: &Run) -> bool {
    let prompts = |run: &Run| -> BTreeSet<(String, String)> {
        run.measurements.iter().map(|row| (row.slice.clone(), row.prompt_id.clone())).collect()
    };
    let (a, b) = (prompts(a), prompts(b));
    2 * a.intersection(&b).count() > a.len().max(b.len())
}

/// True for another training seed of the same arm of the same experiment.
fn same_arm(entry: &[Run], run: &Run) -> bool {
    let model = &run.manifest.model;
    model.arm.is_some()
        && model.training_seed.is_some()
        && entry.iter().all(|other| {
            let known = &other.manifest.model;
            known.arm == model.arm && known.training_seed.is_some() && known.training_seed != model.training_seed
        })
}

/// The arm for several seeds, the model's name for one; a number tells equal names apart.
fn name(entries: &mut [Entry]) {
    let mut taken = BTreeSet::new();
    for entry in entries {
        let model = &entry.runs[0].manifest.model;
        let plain = match &model.arm {
            Some(arm) if entry.runs.len() > 1 => arm.clone(),
            _ => model.name.clone(),
        };
        let mut name = plain.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{plain} ({number})");
            number += 1;
        }
        entry.name = name;
    }
}
