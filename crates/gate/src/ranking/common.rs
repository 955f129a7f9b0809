//! Estimates over the prompts that all entries of a board answered: figures over different prompts do not compare models.

use std::collections::BTreeSet;

use smpo_metrics::estimate;
use smpo_results::{COMMON_PROMPTS, MetricEstimate};

use super::entries::Entry;
use super::{RankingOptions, estimates};
use crate::error::GateError;
use crate::run::Run;
use crate::shared::{PromptKey, Prompts};

/// The prompts that each entry answered, and those that all did.
pub(super) struct Answered<'a> {
    /// Number of prompts by entry.
    pub counts: Vec<usize>,
    /// The prompts of all; `None` if every entry answered the same ones.
    pub common: Option<BTreeSet<PromptKey<'a>>>,
}

/// Completions that the engine failed on are no answers.
pub(super) fn answered(entries: &[Entry]) -> Answered<'_> {
    let sets: Vec<BTreeSet<PromptKey>> = entries.iter().map(of_entry).collect();
    let counts = sets.iter().map(BTreeSet::len).collect();
    let same = sets.windows(2).all(|pair| pair[0] == pair[1]);
    let common = (!same).then(|| {
        let mut sets = sets.into_iter();
        let first = sets.next().unwrap_or_default();
        sets.fold(first, |common, set| common.intersection(&set).copied().collect())
    });
    Answered { counts, common }
}

/// Prompts that every run of the entry answered.
fn of_entry(entry: &Entry) -> BTreeSet<PromptKey<'_>> {
    let sets = entry.runs.iter().map(answers);
    sets.reduce(|all, set| all.intersection(&set).copied().collect()).unwrap_or_default()
}

/// Prompts with a value of some metric of completions that did not fail.
fn answers(run: &Run) -> BTreeSet<PromptKey<'_>> {
    let answered = run.answered(|metric| !metric.of_failures);
    let rows = answered.into_iter().enumerate().filter(|(_, answered)| *answered);
    rows.map(|(row, _)| run.measurements.key(row)).collect()
}

/// An entry's estimates over these prompts, of every metric that has values per prompt.
pub(super) fn estimates(
    entry: &Entry,
    prompts: &BTreeSet<PromptKey>,
    options: &RankingOptions,
) -> Result<Vec<MetricEstimate>, GateError> {
    let narrowed =
        Entry { name: entry.name.clone(), runs: entry.runs.iter().map(|run| narrow(run, prompts)).collect() };
    let own = Prompts::of(&narrowed.runs);
    let whole = entry.runs[0].metrics.metrics.iter().filter(|estimate| estimate.slice == "all");
    let per_prompt = whole.filter(|estimate| narrowed.runs.iter().all(|run| run.has(&estimate.metric)));
    let mut found = Vec::new();
    for whole in per_prompt {
        let estimate = match narrowed.runs.as_slice() {
            [run] => of_run(run, whole),
            _ => estimates::pooled(&narrowed, &own, whole, options)?,
        };
        found.extend(estimate.map(|estimate| MetricEstimate { slice: COMMON_PROMPTS.to_owned(), ..estimate }));
    }
    Ok(found)
}

fn narrow(run: &Run, prompts: &BTreeSet<PromptKey>) -> Run {
    let measurements = &run.measurements;
    let kept = (0..measurements.len()).filter(|&row| prompts.contains(&measurements.key(row)));
    Run {
        dir: run.dir.clone(),
        manifest: run.manifest.clone(),
        metrics: run.metrics.clone(),
        measurements: kept.map(|row| measurements.row(row)).collect(),
    }
}

fn of_run(run: &Run, whole: &MetricEstimate) -> Option<MetricEstimate> {
    let info = smpo_metrics::pass_k::parse(&whole.metric)
        .map(|(info, _)| info)
        .or_else(|| smpo_metrics::find(&whole.metric))?;
    let means: Vec<f64> =
        run.rows(&whole.metric).map(|(_, values)| values.iter().sum::<f64>() / values.len() as f64).collect();
    let found = estimate::of_prompts(info, &means)?;
    let (ci_low, ci_high) = (found.interval.low, found.interval.high);
    Some(MetricEstimate { value: found.value, ci_low, ci_high, n: found.n, ..whole.clone() })
}
