//! The difference of every entry to the baseline, paired by prompt.

use smpo_results::{BoardMetric, Comparison, Unit};
use smpo_stats::bootstrap;

use super::entries::Entry;
use super::{CONFIDENCE, RankingOptions};
use crate::contrast::{Settings, Shape, analyse};
use crate::error::GateError;
use crate::pairing::{Paired, seeds_of};
use crate::policy::{Policy, Require};
use crate::shared::Prompts;

/// `result[entry]`, empty for the baseline. Metrics without two shared prompts are left out.
pub(super) fn to_baseline(
    entries: &[Entry],
    baseline: usize,
    metrics: &[BoardMetric],
    options: &RankingOptions,
) -> Result<Vec<Vec<Comparison>>, GateError> {
    entries
        .iter()
        .enumerate()
        .map(
            |(index, entry)| {
                if index == baseline { Ok(Vec::new()) } else { compare(&entries[baseline], entry, metrics, options) }
            },
        )
        .collect()
}

fn compare(
    baseline: &Entry,
    entry: &Entry,
    metrics: &[BoardMetric],
    options: &RankingOptions,
) -> Result<Vec<Comparison>, GateError> {
    let prompts = Prompts::of(baseline.runs.iter().chain(&entry.runs));
    let (before, after): (Vec<usize>, Vec<usize>) =
        (0..baseline.runs.len() + entry.runs.len()).partition(|&run| run < baseline.runs.len());
    let cases: Vec<(&BoardMetric, Paired, Shape)> = metrics
        .iter()
        .map(|metric| (metric, Paired::new(&metric.id, "all", &prompts, &before, &after)))
        .filter(|(_, paired)| paired.n() >= 2)
        .map(|(metric, paired)| {
            let shape = Shape::of(&paired);
            (metric, paired, shape)
        })
        .collect();
    let replicates = bootstrap_together(&cases, options)?;
    let mut comparisons = Vec::with_capacity(cases.len());
    for ((metric, paired, shape), replicates) in cases.iter().zip(&replicates) {
        let settings = Settings {
            level: CONFIDENCE,
            resamples: options.resamples,
            seed: options.seed,
            seeds: seeds_of(&baseline.runs, &entry.runs),
            share: metric.unit == Unit::Share,
            line: 0.0,
            equivalence: None,
            tests: false,
        };
        let found = analyse(paired, shape, replicates, settings)
            .map_err(|source| GateError::Stats { metric: metric.id.clone(), source })?;
        comparisons.push(Comparison {
            metric: metric.id.clone(),
            difference: found.estimate,
            ci_low: found.interval.low,
            ci_high: found.interval.high,
            margin: options.policy.and_then(|policy| margin(policy, &metric.id)),
        });
    }
    Ok(comparisons)
}

/// Metrics over the same prompts share their draws.
fn bootstrap_together(
    cases: &[(&BoardMetric, Paired, Shape)],
    options: &RankingOptions,
) -> Result<Vec<Vec<f64>>, GateError> {
    let mut result = vec![Vec::new(); cases.len()];
    let mut left: Vec<usize> = (0..cases.len()).filter(|&case| cases[case].2.column().is_some()).collect();
    while let Some(&first) = left.first() {
        let (group, rest): (Vec<usize>, Vec<usize>) =
            left.into_iter().partition(|&case| cases[case].1.prompts == cases[first].1.prompts);
        let columns: Vec<&[f64]> = group.iter().filter_map(|&case| cases[case].2.column()).collect();
        let replicates = bootstrap::means(&columns, options.resamples, options.seed)
            .map_err(|source| GateError::Stats { metric: cases[first].0.id.clone(), source })?;
        for (case, replicates) in group.into_iter().zip(replicates) {
            result[case] = replicates;
        }
        left = rest;
    }
    Ok(result)
}

fn margin(policy: &Policy, metric: &str) -> Option<f64> {
    policy.rules.iter().filter(|rule| rule.metric == metric && rule.slice == "all").find_map(|rule| {
        match rule.require {
            Require::NonInferior(margin) => Some(margin),
            _ => None,
        }
    })
}
