//! pass^k of a rule, derived from the samples of its metric before anything is paired.

use std::collections::{BTreeMap, BTreeSet};

use smpo_metrics::{estimate, pass_k};
use smpo_results::{Direction, MetricEstimate, Unit};

use crate::policy::{Policy, Rule};
use crate::run::Run;

/// Gives every prompt its value of each pass^k that the policy asks for. A run that has k samples to a prompt is measured by
/// itself; where some run has fewer, the samples of an arm's training seeds are taken together, into its first run.
pub(crate) fn derive(policy: &Policy, baseline: &mut [Run], candidate: &mut [Run]) -> Vec<String> {
    let mut notes = Vec::new();
    for rule in &policy.rules {
        let Some(k) = rule.pass_k else { continue };
        let enough = |run: &Run| most_samples(run, rule.source()) >= k;
        if baseline.iter().chain(candidate.iter()).all(enough) {
            baseline.iter_mut().chain(candidate.iter_mut()).for_each(|run| of_run(run, rule, k));
        } else if baseline.len().max(candidate.len()) > 1 {
            pooled(baseline, rule, k);
            pooled(candidate, rule, k);
            notes.push(format!(
                "pass^{k} takes the samples of all training seeds of an arm together: a claim about these checkpoints"
            ));
        }
    }
    notes.dedup();
    notes
}

/// Gives runs that have k samples to a prompt their value and estimate of each pass^k that the rules ask for, for a board.
pub(crate) fn measure<'a>(rules: &[Rule], runs: impl Iterator<Item = &'a mut Run>) {
    let mut asked: Vec<(&Rule, usize)> = rules.iter().filter_map(|rule| Some((rule, rule.pass_k?))).collect();
    asked.dedup_by(|a, b| a.0.metric == b.0.metric);
    for run in runs {
        for &(rule, k) in &asked {
            if most_samples(run, rule.source()) >= k && !run.has(&rule.metric) {
                of_run(run, rule, k);
                let prompts: Vec<f64> =
                    run.rows(&rule.metric, "all").filter_map(|(_, values)| values.first().copied()).collect();
                run.metrics.metrics.extend(estimate::share(&prompts).map(|found| MetricEstimate {
                    metric: rule.metric.clone(),
                    slice: "all".to_owned(),
                    value: found.value,
                    ci_low: found.interval.low,
                    ci_high: found.interval.high,
                    n: found.n,
                    unit: Unit::Share,
                    better: Direction::Higher,
                    primary: false,
                }));
            }
        }
    }
}

/// The runs that carry the rule's values: the first alone, where seeds were taken together.
pub(crate) fn carriers<'a>(rule: &Rule, runs: &'a [Run]) -> &'a [Run] {
    match runs {
        [first, rest @ ..] if rule.pass_k.is_some() && first.has(&rule.metric) => {
            if rest.iter().all(|run| run.has(&rule.metric)) { runs } else { &runs[..1] }
        }
        _ => runs,
    }
}

/// Most samples of a prompt.
pub(crate) fn most_samples(run: &Run, metric: &str) -> usize {
    run.rows(metric, "all").map(|(_, values)| values.len()).max().unwrap_or(0)
}

fn of_run(run: &mut Run, rule: &Rule, k: usize) {
    let Some(info) = smpo_metrics::find(rule.source()) else { return };
    for row in &mut run.measurements {
        let value = row.values.get(rule.source()).and_then(|values| pass_k::estimate(info, values, k));
        row.values.extend(value.map(|value| (rule.metric.clone(), vec![value])));
    }
}

/// Prompts that every run has, all their samples together.
fn pooled(runs: &mut [Run], rule: &Rule, k: usize) {
    let Some(info) = smpo_metrics::find(rule.source()) else { return };
    let mut samples: BTreeMap<(String, String), (BTreeSet<usize>, Vec<f64>)> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        for (row, values) in run.rows(rule.source(), "all") {
            let of_prompt = samples.entry((row.slice.clone(), row.prompt_id.clone())).or_default();
            of_prompt.0.insert(index);
            of_prompt.1.extend(values);
        }
    }
    let all = runs.len();
    let Some(first) = runs.first_mut() else { return };
    for row in &mut first.measurements {
        let Some((seen, values)) = samples.get(&(row.slice.clone(), row.prompt_id.clone())) else { continue };
        let value = pass_k::estimate(info, values, k).filter(|_| seen.len() == all);
        row.values.extend(value.map(|value| (rule.metric.clone(), vec![value])));
    }
}
