//! Grouping of runs into boards and entries.

use std::collections::BTreeSet;

use smpo_results::RunManifest;

use crate::error::GateError;
use crate::pairing::{keys, training_seed};
use crate::run::Run;
use crate::shared::Prompts;

/// One row of a board: a checkpoint, or an arm over several training seeds.
pub(super) struct Entry {
    pub name: String,
    pub runs: Vec<Run>,
}

/// Entries that can be compared, and the reason for which they are apart from those of the first board.
pub(super) struct Group {
    pub entries: Vec<Entry>,
    pub apart: Option<String>,
}

/// Boards of entries, both in order of first appearance.
pub(super) fn group(runs: Vec<Run>) -> Result<Vec<Group>, GateError> {
    let mut boards: Vec<Group> = Vec::new();
    for run in runs {
        let index = boards.iter().position(|board| apart(&board.entries[0].runs[0], &run).is_none());
        let index = index.unwrap_or_else(|| {
            let reason = boards.first().and_then(|first| apart(&first.entries[0].runs[0], &run));
            boards.push(Group { entries: Vec::new(), apart: reason });
            boards.len() - 1
        });
        let entries = &mut boards[index].entries;
        match entries.iter_mut().find(|entry| same_arm(&entry.runs, &run)) {
            Some(entry) => entry.runs.push(run),
            None => entries.push(Entry { name: String::new(), runs: vec![run] }),
        }
    }
    for board in &mut boards {
        board.entries.iter_mut().for_each(|entry| entry.runs.sort_by_key(training_seed));
        name(&mut board.entries);
    }
    Ok(boards)
}

/// The reason for which two runs are on different boards; `None` for runs of the same prompts and sampler. Models of
/// different families differ in template and terminators and may still share a board.
fn apart(first: &Run, run: &Run) -> Option<String> {
    let (a, b) = (&first.manifest, &run.manifest);
    let (x, y) = (run.name(), first.name());
    if a.kind != b.kind {
        let made = |run: &RunManifest| if run.is_scored() { "made elsewhere and scored here" } else { "sampled here" };
        return Some(format!("the answers of {x} were {}, those of {y} {}", made(b), made(a)));
    }
    let scored = a.is_scored();
    if a.sampler != b.sampler || a.cap != b.cap {
        let drawn = |manifest: &RunManifest| {
            let parts = [manifest.sampler.as_ref().map(super::sampler), manifest.cap.map(|cap| format!("cap {cap}"))];
            match parts.into_iter().flatten().collect::<Vec<String>>().join(", ") {
                unknown if unknown.is_empty() => "an unknown sampler".to_owned(),
                drawn => drawn,
            }
        };
        return Some(format!("{x} was sampled with {}, {y} with {}", drawn(b), drawn(a)));
    }
    if a.samples_per_prompt != b.samples_per_prompt && !scored {
        return Some(format!("{x} has {} samples a prompt, {y} has {}", b.samples_per_prompt, a.samples_per_prompt));
    }
    if a.suite.sha256 != b.suite.sha256 && !(scored && mostly_shared(first, run)) {
        let shared = match scored {
            true if prompts_in_common(first, run) == 0 && ids_in_common(first, run) => {
                "the same ids of prompts under different slices"
            }
            true => "half of their prompts or fewer in common",
            false => "different suites",
        };
        return Some(format!("{x} and {y} have {shared}"));
    }
    None
}

/// True if most prompts are in common: scored answers to a suite are seldom complete.
fn mostly_shared(a: &Run, b: &Run) -> bool {
    2 * prompts_in_common(a, b) > a.measurements.len().max(b.measurements.len())
}

fn prompts_in_common(a: &Run, b: &Run) -> usize {
    let prompts = Prompts::of([a, b]);
    (0..prompts.len()).filter(|&prompt| (0..2).all(|run| prompts.row(run, prompt).is_some())).count()
}

fn ids_in_common(a: &Run, b: &Run) -> bool {
    let ids: BTreeSet<&str> = keys(a).map(|(_, id)| id).collect();
    keys(b).any(|(_, id)| ids.contains(id))
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
