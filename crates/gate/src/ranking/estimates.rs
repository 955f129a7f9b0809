//! An entry's estimates: its run's own for one run, pooled over training seeds for several.

use smpo_results::{MetricEstimate, Unit};
use smpo_stats::distribution::student_quantile;
use smpo_stats::hierarchical::{self, Options};

use super::entries::Entry;
use super::{CONFIDENCE, RankingOptions};
use crate::contrast::{over_seeds_of_shares, prompt_means};
use crate::error::GateError;
use crate::pairing::Paired;
use crate::shared::Prompts;

pub(super) fn of(entry: &Entry, options: &RankingOptions) -> Result<Vec<MetricEstimate>, GateError> {
    let first = &entry.runs[0].metrics.metrics;
    if entry.runs.len() == 1 {
        return Ok(first.clone());
    }
    let prompts = Prompts::of(&entry.runs);
    first.iter().filter_map(|estimate| pooled(entry, &prompts, estimate, options).transpose()).collect()
}

/// Over the training seeds, whose `prompts` these are; `None` if some run lacks the metric.
pub(super) fn pooled(
    entry: &Entry,
    prompts: &Prompts,
    estimate: &MetricEstimate,
    options: &RankingOptions,
) -> Result<Option<MetricEstimate>, GateError> {
    let runs: Vec<usize> = (0..entry.runs.len()).collect();
    let paired = Paired::new(&estimate.metric, &estimate.slice, prompts, &[], &runs);
    let mut estimate = estimate.clone();
    if paired.n() >= 2 {
        let settings = Options { confidence: CONFIDENCE, resamples: options.resamples.max(100), seed: options.seed };
        let failed = |source| GateError::Stats { metric: estimate.metric.clone(), source };
        let arm = paired.arm(&paired.candidate);
        let found = hierarchical::mean(&arm, settings).map_err(failed)?;
        let interval = match estimate.unit {
            Unit::Share => {
                over_seeds_of_shares(&prompt_means(&arm.runs), found.interval, CONFIDENCE).map_err(failed)?.0
            }
            _ => found.interval,
        };
        (estimate.value, estimate.ci_low, estimate.ci_high) = (found.value, interval.low, interval.high);
        estimate.n = paired.n();
    } else {
        // A property of whole runs: the runs themselves are the observations.
        let values: Option<Vec<f64>> = entry
            .runs
            .iter()
            .map(|run| run.metrics.get(&estimate.metric, &estimate.slice).map(|found| found.value))
            .collect();
        let Some(values) = values else { return Ok(None) };
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let half = student_quantile(0.5 + 0.5 * CONFIDENCE, n - 1.0) * (variance / n).sqrt();
        (estimate.value, estimate.ci_low, estimate.ci_high) = (mean, mean - half, mean + half);
    }
    if estimate.unit == Unit::Share {
        (estimate.ci_low, estimate.ci_high) = (estimate.ci_low.max(0.0), estimate.ci_high.min(1.0));
    }
    Ok(Some(estimate))
}
