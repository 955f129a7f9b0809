//! Caveats of a comparison, one line each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use smpo_stats::hierarchical::Seeds;

use crate::prompts;
use crate::run::Run;

/// Prompts that a note names.
const NAMED: usize = 3;

/// Caveats of comparing these arms.
pub(crate) fn of(baseline: &[Run], candidate: &[Run], seeds: Seeds) -> Vec<String> {
    let mut notes: Vec<String> = on_both_sides(baseline, candidate).into_iter().collect();
    let (b, c) = (baseline.len(), candidate.len());
    if b > 1 && c > 1 {
        let how = match seeds {
            Seeds::Paired => "the arms share their training seeds, which were resampled together",
            Seeds::Independent => "the arms' training seeds were resampled apart",
        };
        notes.push(format!("{b} and {c} training seeds: {how}"));
    } else if b + c > 2 {
        notes.push(format!(
            "{b} baseline and {c} candidate checkpoints: the arm with one stands only for that checkpoint"
        ));
    }
    let scored: Vec<(&str, &Run)> = arms(baseline, candidate).filter(|(_, run)| run.manifest.is_scored()).collect();
    if !scored.is_empty() {
        notes.push("completions that others generated: sampler, cap and terminators are not known to agree".into());
    }
    notes.extend(own_defaults(baseline, candidate));
    notes.extend(unknown_prompts(&scored));
    notes.extend(sample_counts(&scored));
    notes
}

/// A warning of an evaluation that is compared with itself.
fn on_both_sides(baseline: &[Run], candidate: &[Run]) -> Option<String> {
    let baseline: Vec<PathBuf> = baseline.iter().map(Run::place).collect();
    let shared = candidate.iter().find(|run| baseline.contains(&run.place()))?;
    Some(format!("{} is on both sides: an evaluation compared with itself shows nothing", shared.dir.display()))
}

fn arms<'a>(baseline: &'a [Run], candidate: &'a [Run]) -> impl Iterator<Item = (&'static str, &'a Run)> {
    let named = |arm: &'static str, runs: &'a [Run]| runs.iter().map(move |run| (arm, run));
    named("baseline", baseline).chain(named("candidate", candidate))
}

/// A warning of servers that sampled by defaults of their own, the other arm not or by others.
fn own_defaults(baseline: &[Run], candidate: &[Run]) -> Option<String> {
    let of = |runs: &[Run]| -> BTreeSet<String> {
        let server = |run: &Run| run.manifest.observed.server.clone();
        runs.iter().filter_map(server).flat_map(|server| server.own_defaults).collect()
    };
    let (b, c) = (of(baseline), of(candidate));
    let differing = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
        let fields: Vec<&str> = one.difference(other).map(String::as_str).collect();
        (!fields.is_empty()).then(|| fields.join(", "))
    };
    let arms = [("baseline", differing(&b, &c)), ("candidate", differing(&c, &b))];
    let told: Vec<String> = arms
        .into_iter()
        .filter_map(|(arm, fields)| {
            Some(format!("the {arm}'s server refused {} and sampled by its own defaults", fields?))
        })
        .collect();
    (!told.is_empty())
        .then(|| format!("{}: the arms were not sampled alike, and a repetition penalty hides loops", told.join("; ")))
}

/// A warning of answers that come without prompts: equal ids of two tasks would be paired.
fn unknown_prompts(scored: &[(&str, &Run)]) -> Option<String> {
    let mut arms: Vec<&str> = scored.iter().filter(|(_, run)| !prompts::known(run)).map(|(arm, _)| *arm).collect();
    arms.dedup();
    (!arms.is_empty()).then(|| {
        format!(
            "the answers of the {} come without their prompts: paired by question id alone, which two tasks may share \
             (`smpo score --prompts` gives them)",
            arms.join(" and the ")
        )
    })
}

/// A warning of prompts with more or fewer answers than the others.
fn sample_counts(scored: &[(&str, &Run)]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut usual: Vec<usize> = Vec::new();
    for (arm, run) in scored {
        let mut by_count: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for row in 0..run.measurements.len() {
            let count = run.measurements.columns().map(|(_, column)| column.row(row).len()).max().unwrap_or(0);
            by_count.entry(count).or_default().push(run.measurements.key(row).1);
        }
        let Some((&most, _)) = by_count.iter().max_by_key(|(_, prompts)| prompts.len()) else { continue };
        usual.push(most);
        for (count, prompts) in by_count.iter().filter(|(count, _)| **count != most) {
            let named: Vec<String> = prompts.iter().take(NAMED).map(|id| format!("`{id}`")).collect();
            let more = match prompts.len() - named.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            notes.push(format!(
                "the {arm} answers {}{more} {count} times, other prompts {most}: the answers to a prompt are averaged, a \
                 repeated line counts like another sample",
                named.join(", ")
            ));
        }
    }
    usual.dedup();
    if usual.len() > 1 {
        notes.push("the arms have different numbers of answers to a prompt, which are averaged first".into());
    }
    notes
}
