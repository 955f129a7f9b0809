//! pass^k of a rule, derived from the samples of its metric before anything is paired.

use smpo_metrics::{estimate, pass_k};
use smpo_results::{Column, Direction, MetricEstimate, Unit};

use crate::policy::{Policy, Role, Rule};
use crate::run::Run;
use crate::shared::Prompts;

/// Gives every prompt its value of each pass^k that the policy asks for. A run that has k samples to a prompt is measured by
/// itself; where some run has fewer, the samples of an arm's training seeds are taken together, into its first run. A bound
/// on the candidate's own value asks nothing of the baseline.
pub(crate) fn derive(policy: &Policy, baseline: &mut [Run], candidate: &mut [Run]) -> Derived {
    let mut derived = Derived::default();
    for rule in &policy.rules {
        let Some(k) = rule.pass_k else { continue };
        let compared: &mut [Run] = if rule.require.is_absolute() { &mut [] } else { &mut *baseline };
        let enough = |run: &Run| most_samples(run, rule.source()) >= k;
        if compared.iter().chain(candidate.iter()).all(enough) {
            compared.iter_mut().chain(candidate.iter_mut()).for_each(|run| of_run(run, rule, k));
        } else if compared.len().max(candidate.len()) > 1 {
            pooled(compared, rule, k);
            pooled(candidate, rule, k);
            derived.of_checkpoints |= rule.role == Role::Primary;
            derived.notes.push(format!(
                "pass^{k} takes the samples of all training seeds of an arm together: a claim about these checkpoints"
            ));
        }
    }
    derived.notes.dedup();
    derived
}

/// Remarks on the values that were derived.
#[derive(Default)]
pub(crate) struct Derived {
    /// For the verdict.
    pub notes: Vec<String>,
    /// True if a primary rule took the samples of several training seeds together, so that no claim about methods follows.
    pub of_checkpoints: bool,
}

/// Gives runs that have k samples to a prompt their value and estimate of each pass^k that the rules ask for, for a board.
pub(crate) fn measure<'a>(rules: &[Rule], runs: impl Iterator<Item = &'a mut Run>) {
    let asked: Vec<(&Rule, usize)> = rules.iter().filter_map(|rule| Some((rule, rule.pass_k?))).collect();
    for run in runs {
        for &(rule, k) in &asked {
            if most_samples(run, rule.source()) >= k && !run.has(&rule.metric) {
                of_run(run, rule, k);
                let prompts: Vec<f64> =
                    run.rows(&rule.metric).filter_map(|(_, values)| values.first().copied()).collect();
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
    run.rows(metric).map(|(_, values)| values.len()).max().unwrap_or(0)
}

fn of_run(run: &mut Run, rule: &Rule, k: usize) {
    let Some(info) = smpo_metrics::find(rule.source()) else { return };
    let value = |(row, values): (usize, &[f64])| Some((row, [pass_k::estimate(info, values, k)?]));
    let column: Column = run.rows(rule.source()).filter_map(value).collect();
    run.measurements.set(&rule.metric, column);
}

/// Prompts that every run has, all their samples together.
fn pooled(runs: &mut [Run], rule: &Rule, k: usize) {
    let Some(info) = smpo_metrics::find(rule.source()) else { return };
    let all = Prompts::of(runs.iter());
    let of_runs: Vec<_> = (0..runs.len()).map(|run| all.values(run, rule.source())).collect();
    let mut pooled: Vec<(usize, [f64; 1])> = Vec::new();
    for prompt in (0..all.len()).filter(|&prompt| of_runs.iter().all(|run| !run.of(prompt).is_empty())) {
        let samples: Vec<f64> = of_runs.iter().flat_map(|run| run.of(prompt)).copied().collect();
        let row = all.row(0, prompt);
        pooled.extend(row.zip(pass_k::estimate(info, &samples, k).map(|value| [value])));
    }
    pooled.sort_unstable_by_key(|(row, _)| *row);
    if let Some(first) = runs.first_mut() {
        first.measurements.set(&rule.metric, pooled.into_iter().collect());
    }
}
