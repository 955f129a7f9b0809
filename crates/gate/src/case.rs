//! A policy's rules on the runs of both arms.

use std::collections::{BTreeMap, BTreeSet};

use smpo_metrics::Metric;
use smpo_results::{Direction, SkippedRule, Unit};
use smpo_stats::bootstrap;

use crate::contrast::Shape;
use crate::draft::{Draft, Scale};
use crate::error::GateError;
use crate::pairing::Paired;
use crate::pass_k;
use crate::policy::{IfMissing, Policy, Require, Role, Rule};
use crate::run::Run;
use crate::shared::Prompts;

/// A rule on its data.
pub(crate) enum Case<'a> {
    /// Neither arm has the metric and the policy allows that.
    Skipped(SkippedRule),
    /// Too little was measured to test: inconclusive.
    NotMeasured(Box<Draft<'a>>),
    /// To be tested. `blocked_by` is a reason for which the rule may not pass.
    Testable {
        rule: &'a Rule,
        scale: Scale,
        paired: Paired<'a>,
        shape: Shape,
        /// Prompts of the slice, with or without a value.
        asked: usize,
        blocked_by: Option<String>,
    },
}

/// Refuses a policy with an unknown metric or one that has no value per prompt, or with a misspelt slice.
pub(crate) fn check_names(policy: &Policy, baseline: &[Run], candidate: &[Run]) -> Result<(), GateError> {
    let runs = || baseline.iter().chain(candidate);
    let mut measured: Vec<String> = Vec::new();
    for run in runs() {
        let declared = run.metrics.metrics.iter().map(|metric| metric.metric.as_str());
        for metric in declared.chain(run.measurements.metrics()) {
            if !measured.iter().any(|known| known == metric) {
                measured.push(metric.to_owned());
            }
        }
    }
    for rule in &policy.rules {
        let metric = rule.source();
        if smpo_metrics::find(metric).is_none() && !measured.iter().any(|known| known == metric) {
            let known = measured.iter().map(String::as_str).chain(smpo_metrics::all().iter().map(|m| m.info.id));
            return Err(GateError::UnknownMetric {
                origin: policy.origin.clone(),
                metric: metric.to_owned(),
                suggestion: smpo_suggest::did_you_mean(metric, known),
                measured,
            });
        }
        let whole_run = runs().any(|run| run.declared(metric).is_some()) && !runs().any(|run| run.has(metric));
        if whole_run {
            return Err(GateError::NotPerPrompt { origin: policy.origin.clone(), metric: metric.to_owned() });
        }
    }
    let slices = slices(baseline, candidate);
    for rule in policy.rules.iter().filter(|rule| rule.slice != "all" && !slices.contains(rule.slice.as_str())) {
        if let Some(meant) = misspelt(&rule.slice, &slices, policy) {
            let (origin, slice) = (policy.origin.clone(), rule.slice.clone());
            return Err(GateError::MisspeltSlice { origin, slice, meant: meant.to_owned() });
        }
    }
    Ok(())
}

/// The slice of the runs that a policy means by a name that no run has. A policy may well name slices that some runs lack: one
/// that another rule names, or that differs in its number alone, is not meant.
fn misspelt<'a>(name: &str, slices: &BTreeSet<&'a str>, policy: &Policy) -> Option<&'a str> {
    let free = slices.iter().copied().filter(|slice| policy.rules.iter().all(|rule| rule.slice != *slice));
    let without_number = |name: &str| name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    smpo_suggest::nearest(name, free).filter(|near| without_number(near) != without_number(name))
}

/// Slices of all runs.
fn slices<'a>(baseline: &'a [Run], candidate: &'a [Run]) -> BTreeSet<&'a str> {
    baseline.iter().chain(candidate).flat_map(Run::slices).collect()
}

/// Unit and direction of a rule's metric: as a run declares them, else as the catalogue does.
fn scale(rule: &Rule, policy: &Policy, baseline: &[Run], candidate: &[Run]) -> Result<Scale, GateError> {
    let declared = baseline.iter().chain(candidate).find_map(|run| run.declared(&rule.metric));
    if rule.pass_k.is_some() {
        return Ok(Scale { unit: Unit::Share, better: Direction::Higher });
    }
    let (unit, better) = declared
        .or_else(|| smpo_metrics::find(&rule.metric).map(|m| (m.unit, m.better)))
        .unwrap_or((Unit::Ratio, Direction::Neither));
    let needs_direction = matches!(rule.require, Require::NonInferior(_) | Require::Superior(_));
    if needs_direction && better == Direction::Neither {
        return Err(GateError::NoDirection { origin: policy.origin.clone(), metric: rule.metric.clone() });
    }
    if let Some(expected) = rule.require.refusal(unit) {
        return Err(GateError::PolicyValue {
            origin: policy.origin.clone(),
            what: format!("require of `{}` on slice `{}`", rule.metric, rule.slice),
            expected: expected.to_owned(),
            got: rule.require.value().to_string(),
        });
    }
    Ok(Scale { unit, better })
}

/// The runs of both arms with their prompts.
pub(crate) struct Arms<'a> {
    baseline: &'a [Run],
    candidate: &'a [Run],
    prompts: &'a Prompts<'a>,
    /// By run and row, of the baseline first: true where there is a value of a completion.
    answered: Vec<Vec<bool>>,
}

impl<'a> Arms<'a> {
    /// `prompts` are those of the baseline's runs, then the candidate's.
    pub fn new(baseline: &'a [Run], candidate: &'a [Run], prompts: &'a Prompts<'a>) -> Arms<'a> {
        let answered = |run: &Run| run.answered(|_| true);
        let answered = baseline.iter().chain(candidate).map(answered).collect();
        Arms { baseline, candidate, prompts, answered }
    }

    /// A run by its place, the baseline's first.
    fn run(&self, place: usize) -> &'a Run {
        let after = place.checked_sub(self.baseline.len());
        after.map_or_else(|| &self.baseline[place], |place| &self.candidate[place])
    }
}

/// Pairs a rule's data.
pub(crate) fn prepare<'a>(rule: &'a Rule, policy: &'a Policy, arms: &'a Arms<'a>) -> Result<Case<'a>, GateError> {
    let scale = scale(rule, policy, arms.baseline, arms.candidate)?;
    let compared = if rule.require.is_absolute() { &[] } else { arms.baseline };
    let most = compared.iter().chain(arms.candidate).map(|run| pass_k::most_samples(run, rule.source())).min();
    let baseline = pass_k::carriers(rule, compared);
    let candidate = pass_k::carriers(rule, arms.candidate);
    let places = |start: usize, runs: &[Run]| (start..start + runs.len()).collect::<Vec<usize>>();
    let (before, after) = (places(0, baseline), places(arms.baseline.len(), candidate));
    let paired = Paired::new(&rule.metric, &rule.slice, arms.prompts, &before, &after);
    let asked = asked(rule, arms, &[before, after].concat()).max(paired.total);
    let n = paired.n();
    let on_slice = if rule.slice == "all" { String::new() } else { format!(" on slice `{}`", rule.slice) };
    if paired.total == 0 {
        let reason = format!("{}{}", absence(rule, most.unwrap_or(0)), slice_hint(rule, baseline, candidate));
        return Ok(match rule.if_missing {
            IfMissing::Skip => Case::Skipped(SkippedRule {
                metric: rule.metric.clone(),
                slice: rule.slice.clone(),
                reason,
                primary: rule.role == Role::Primary,
            }),
            IfMissing::Inconclusive => Case::NotMeasured(Box::new(Draft::not_measured(rule, policy, scale, 0, reason))),
        });
    }
    if n < 2 {
        let reason = format!(
            "{n} of {} prompts{on_slice} have `{}` in every run; the policy asks for at least {}",
            paired.total, rule.metric, rule.min_n
        );
        return Ok(Case::NotMeasured(Box::new(Draft::not_measured(rule, policy, scale, n, reason))));
    }
    let blocked_by = if paired.unpaired() > rule.max_unpaired {
        Some(format!(
            "{} of {} prompts{on_slice} lack `{}` in some run, more than the {:.1} % that the policy allows",
            paired.total - n,
            paired.total,
            rule.metric,
            100.0 * rule.max_unpaired
        ))
    } else if n < rule.min_n {
        let prompts = smpo_suggest::counted(n, "prompt");
        Some(format!("only {prompts}{on_slice}, and the policy asks for at least {}", rule.min_n))
    } else {
        let runs = [places(0, compared), places(arms.baseline.len(), arms.candidate)].concat();
        lost_answers(rule, arms, &paired, &runs)
    };
    let shape = Shape::of(&paired);
    Ok(Case::Testable { rule, scale, paired, shape, asked, blocked_by })
}

/// A run that lost too many answers to the prompts of a rule, in words: several samples of a prompt may leave it a value though
/// most of them failed.
fn lost_answers(rule: &Rule, arms: &Arms, paired: &Paired, runs: &[usize]) -> Option<String> {
    let of_answers = |metric: &&&Metric| (metric.sample.is_some() || metric.among.is_some()) && !metric.of_failures;
    let metric = smpo_metrics::all().iter().filter(of_answers).find(|metric| metric.info.id == rule.source())?;
    runs.iter().find_map(|&run| {
        let (lost, answers) = arms.prompts.lost(run, metric, &paired.prompts);
        (lost as f64 > rule.max_unpaired * answers as f64).then(|| {
            format!(
                "{lost} of {answers} answers of {} failed or ended in an unknown way, more than the {:.1} % that the policy allows",
                arms.run(run).name(),
                100.0 * rule.max_unpaired
            )
        })
    })
}

/// Prompts of the rule's slice that some run answered: those with any value of a completion. A metric of some prompts
/// alone, or not of completions, has its own, which this does not count.
fn asked(rule: &Rule, arms: &Arms, runs: &[usize]) -> usize {
    let of_every_prompt = |metric: &&Metric| metric.info.id == rule.source() && !metric.of_some_prompts;
    if !smpo_metrics::sample_metrics().any(|metric| of_every_prompt(&metric)) {
        return 0;
    }
    arms.prompts.count(&rule.slice, runs, |run, row| arms.answered[run][row])
}

/// The reason for which no run has a value of the rule's metric; `most` is the largest number of answers to a prompt.
fn absence(rule: &Rule, most: usize) -> String {
    let metric = smpo_metrics::all().iter().find(|metric| metric.info.id == rule.source());
    match (metric, rule.pass_k) {
        (_, Some(k)) if (1..k).contains(&most) => {
            format!("it takes {k} answers to a prompt, and these runs have at most {most}")
        }
        _ if rule.slice != "all" => "no run has a value on this slice".to_owned(),
        (Some(metric), _) if metric.info.id == "eos_rate" => "no answer says how it ended".to_owned(),
        (Some(metric), _) if metric.sample.is_none() && metric.among.is_none() => {
            "not measured: it takes a model, not completions".to_owned()
        }
        _ => "no completion has a value".to_owned(),
    }
}

/// All slices, for a slice that no run has.
fn slice_hint(rule: &Rule, baseline: &[Run], candidate: &[Run]) -> String {
    let slices = slices(baseline, candidate);
    if rule.slice == "all" || slices.contains(rule.slice.as_str()) {
        return String::new();
    }
    format!("; slices of these runs: {}", slices.into_iter().collect::<Vec<_>>().join(", "))
}

/// One value per prompt, with the index of its case.
struct Column<'a> {
    case: usize,
    metric: &'a str,
    values: &'a [f64],
}

/// Bootstraps all columns over the same prompts with the same draws: `result[case]`, empty for a case without column.
pub(crate) fn bootstrap_together(cases: &[Case], policy: &Policy, seed: u64) -> Result<Vec<Vec<f64>>, GateError> {
    let mut groups: BTreeMap<&[usize], Vec<Column>> = BTreeMap::new();
    for (case, found) in cases.iter().enumerate() {
        if let Case::Testable { rule, paired, shape, .. } = found
            && let Some(values) = shape.column()
        {
            groups.entry(&paired.prompts).or_default().push(Column { case, metric: &rule.metric, values });
        }
    }
    let mut result = vec![Vec::new(); cases.len()];
    for group in groups.values() {
        let columns: Vec<&[f64]> = group.iter().map(|column| column.values).collect();
        let replicates = bootstrap::means(&columns, policy.resamples as usize, seed)
            .map_err(|source| GateError::Stats { metric: group[0].metric.to_owned(), source })?;
        for (column, replicates) in group.iter().zip(replicates) {
            result[column.case] = replicates;
        }
    }
    Ok(result)
}
