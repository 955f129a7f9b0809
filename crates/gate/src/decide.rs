//! The verdict: every rule of a policy on two arms, adjusted for each other, put together once.

use std::collections::BTreeMap;

use smpo_results::{ClaimScope, Decision, Direction, SCHEMA_VERSION, SkippedRule, Unit, Verdict};
use smpo_stats::hierarchical::Seeds;
use smpo_stats::{bootstrap, multiplicity};

use crate::contrast::{Settings, Shape, analyse};
use crate::error::GateError;
use crate::exit::{OnInconclusive, exit_code};
use crate::judge::{Draft, Scale, alarm_line, draft, unmeasured};
use crate::pairing::{Paired, PromptKey, check_comparable, seeds_of, training_seed};
use crate::policy::{IfMissing, Policy, Require, Rule};
use crate::run::Run;

/// What a caller may choose beside the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecideOptions {
    /// Seed of all resampling. The same seed gives the same bytes.
    pub seed: u64,
    /// The exit code of an inconclusive verdict.
    pub on_inconclusive: OnInconclusive,
}

impl Default for DecideOptions {
    fn default() -> Self {
        DecideOptions { seed: 42, on_inconclusive: OnInconclusive::Report }
    }
}

/// A rule on its data.
enum Case<'a> {
    /// Neither arm has the metric and the policy allows that.
    Skipped(SkippedRule),
    /// There is nothing to test: the answer is known to be inconclusive.
    Open(Box<Draft>),
    /// To be tested.
    Testable { rule: &'a Rule, scale: Scale, paired: Paired<'a>, shape: Shape, barred: Option<String> },
}

/// Decides on one or several evaluations (training seeds) per arm. The order of the runs within an arm does
/// not matter.
pub fn decide(
    policy: &Policy,
    mut baseline: Vec<Run>,
    mut candidate: Vec<Run>,
    options: DecideOptions,
) -> Result<Verdict, GateError> {
    check_comparable(&baseline, &candidate)?;
    baseline.sort_by_key(training_seed);
    candidate.sort_by_key(training_seed);
    let seeds = seeds_of(&baseline, &candidate);
    check_names(policy, &baseline, &candidate)?;

    let cases: Vec<Case> =
        policy.rules.iter().map(|rule| prepare(rule, policy, &baseline, &candidate)).collect::<Result<_, _>>()?;
    let replicates = bootstrap_together(&cases, policy, options.seed)?;

    let (mut drafts, mut skipped) = (Vec::new(), Vec::new());
    for (case, replicates) in cases.into_iter().zip(&replicates) {
        match case {
            Case::Skipped(rule) => skipped.push(rule),
            Case::Open(open) => drafts.push(*open),
            Case::Testable { rule, scale, paired, shape, barred } => {
                let settings = Settings {
                    level: 1.0 - 2.0 * policy.alpha,
                    resamples: policy.resamples as usize,
                    seed: options.seed,
                    seeds,
                    share: scale.unit == Unit::Share,
                    line: alarm_line(rule.require, scale),
                    tests: true,
                };
                let evidence = analyse(&paired, &shape, replicates, settings)
                    .map_err(|source| GateError::Stats { metric: rule.metric.clone(), source })?;
                drafts.push(draft(rule, policy, scale, &evidence, paired.n(), barred));
            }
        }
    }
    let metrics = settle(drafts, policy.alpha);
    let primary: Vec<Decision> = metrics.iter().filter(|m| m.primary).map(|m| m.verdict).collect();
    let verdict = combine(&primary);
    let claim = if baseline.len() > 1 && candidate.len() > 1 { ClaimScope::Methods } else { ClaimScope::Checkpoints };
    let mut notes = notes(&baseline, &candidate, seeds);
    if primary.is_empty() {
        notes.push("no primary rule could be judged, so nothing was decided".to_owned());
    }
    let dirs = |runs: &[Run]| runs.iter().map(|run| run.dir.display().to_string()).collect();
    Ok(Verdict {
        schema: SCHEMA_VERSION,
        verdict,
        exit_code: exit_code(verdict, options.on_inconclusive),
        baseline: arm_name(&baseline),
        candidate: arm_name(&candidate),
        baseline_runs: dirs(&baseline),
        candidate_runs: dirs(&candidate),
        claim,
        policy: policy.name.clone(),
        policy_sha256: policy.sha256.clone(),
        alpha: policy.alpha,
        seed: options.seed,
        resamples: policy.resamples,
        metrics,
        skipped,
        notes,
    })
}

/// All must pass; one that fails, fails.
fn combine(primary: &[Decision]) -> Decision {
    if primary.contains(&Decision::Fail) {
        Decision::Fail
    } else if !primary.is_empty() && primary.iter().all(|d| *d == Decision::Pass) {
        Decision::Pass
    } else {
        Decision::Inconclusive
    }
}

/// The arm's name where the runs agree on one, else the model's.
pub(crate) fn arm_name(runs: &[Run]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    match &first.manifest.model.arm {
        Some(arm) if runs.len() > 1 && runs.iter().all(|run| run.manifest.model.arm.as_ref() == Some(arm)) => {
            arm.clone()
        }
        _ if runs.len() > 1 => {
            let mut names: Vec<&str> = runs.iter().map(Run::name).collect();
            names.dedup();
            names.join(", ")
        }
        _ => first.name().to_owned(),
    }
}

/// Every metric of the policy must be one that exists.
fn check_names(policy: &Policy, baseline: &[Run], candidate: &[Run]) -> Result<(), GateError> {
    let runs = || baseline.iter().chain(candidate);
    let mut measured: Vec<String> = Vec::new();
    for run in runs() {
        for metric in
            run.metrics.metrics.iter().map(|m| &m.metric).chain(run.measurements.iter().flat_map(|m| m.values.keys()))
        {
            if !measured.contains(metric) {
                measured.push(metric.clone());
            }
        }
    }
    for rule in &policy.rules {
        if smpo_metrics::find(&rule.metric).is_none() && !measured.contains(&rule.metric) {
            let known = measured.iter().map(String::as_str).chain(smpo_metrics::all().iter().map(|m| m.info.id));
            return Err(GateError::UnknownMetric {
                origin: policy.origin.clone(),
                metric: rule.metric.clone(),
                suggestion: smpo_suggest::did_you_mean(&rule.metric, known),
                measured,
            });
        }
        let whole_run =
            runs().any(|run| run.declared(&rule.metric).is_some()) && !runs().any(|run| run.has(&rule.metric));
        if whole_run {
            return Err(GateError::NotPerPrompt { origin: policy.origin.clone(), metric: rule.metric.clone() });
        }
    }
    Ok(())
}

fn scale(rule: &Rule, policy: &Policy, baseline: &[Run], candidate: &[Run]) -> Result<Scale, GateError> {
    let declared = baseline.iter().chain(candidate).find_map(|run| run.declared(&rule.metric));
    let (unit, better) = declared
        .or_else(|| smpo_metrics::find(&rule.metric).map(|m| (m.unit, m.better)))
        .unwrap_or((Unit::Ratio, Direction::Neither));
    let needs_direction = matches!(rule.require, Require::NonInferior(_) | Require::Superior(_));
    if needs_direction && better == Direction::Neither {
        return Err(GateError::NoDirection { origin: policy.origin.clone(), metric: rule.metric.clone() });
    }
    Ok(Scale { unit, better })
}

fn prepare<'a>(
    rule: &'a Rule,
    policy: &'a Policy,
    baseline: &'a [Run],
    candidate: &'a [Run],
) -> Result<Case<'a>, GateError> {
    let scale = scale(rule, policy, baseline, candidate)?;
    let absolute = matches!(rule.require, Require::AtLeast(_) | Require::AtMost(_));
    let baseline = if absolute { &[] } else { baseline };
    let paired = Paired::new(&rule.metric, &rule.slice, baseline, candidate);
    let n = paired.n();
    let on_slice = if rule.slice == "all" { String::new() } else { format!(" on slice `{}`", rule.slice) };
    if paired.total == 0 {
        let reason = format!("not measured{on_slice}{}", slice_hint(rule, baseline, candidate));
        return Ok(match rule.if_missing {
            IfMissing::Skip => {
                Case::Skipped(SkippedRule { metric: rule.metric.clone(), slice: rule.slice.clone(), reason })
            }
            IfMissing::Inconclusive => Case::Open(Box::new(unmeasured(rule, policy, scale, 0, reason))),
        });
    }
    if n < 2 {
        let reason = format!(
            "{n} of {} prompts{on_slice} have `{}` in every run; the policy asks for at least {}",
            paired.total, rule.metric, rule.min_n
        );
        return Ok(Case::Open(Box::new(unmeasured(rule, policy, scale, n, reason))));
    }
    let barred = if paired.unpaired() > rule.max_unpaired {
        Some(format!(
            "{} of {} prompts{on_slice} lack `{}` in some run, more than the {:.1} % that the policy allows",
            paired.total - n,
            paired.total,
            rule.metric,
            100.0 * rule.max_unpaired
        ))
    } else if n < rule.min_n {
        Some(format!("{n} prompts{on_slice}, the policy asks for at least {}", rule.min_n))
    } else {
        None
    };
    let shape = Shape::of(&paired);
    Ok(Case::Testable { rule, scale, paired, shape, barred })
}

/// A slice that no run has is probably misspelt.
fn slice_hint(rule: &Rule, baseline: &[Run], candidate: &[Run]) -> String {
    let mut slices: Vec<&str> = baseline.iter().chain(candidate).flat_map(Run::slices).collect();
    slices.sort_unstable();
    slices.dedup();
    if rule.slice == "all" || slices.contains(&rule.slice.as_str()) {
        return String::new();
    }
    let suggestion = smpo_suggest::did_you_mean(&rule.slice, slices.iter().copied());
    format!("{suggestion}; slices of these runs: {}", slices.join(", "))
}

/// One value per prompt, and the case that they belong to.
struct Column<'a> {
    case: usize,
    metric: &'a str,
    values: &'a [f64],
}

/// Bootstraps all columns over the same prompts with the same draws: `result[case]`, empty where none is wanted.
fn bootstrap_together(cases: &[Case], policy: &Policy, seed: u64) -> Result<Vec<Vec<f64>>, GateError> {
    let mut groups: BTreeMap<&[PromptKey], Vec<Column>> = BTreeMap::new();
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

/// Adjusts the alarms of the primary rules together (Holm: any false alarm), and of the secondary ones (BH:
/// exploratory), and answers; primary first.
fn settle(drafts: Vec<Draft>, alpha: f64) -> Vec<smpo_results::MetricVerdict> {
    let (primary, secondary): (Vec<Draft>, Vec<Draft>) = drafts.into_iter().partition(|draft| draft.verdict.primary);
    let mut settled = Vec::new();
    for (family, adjust, name) in [
        (primary, multiplicity::holm as fn(&[f64]) -> Vec<f64>, "holm"),
        (secondary, multiplicity::benjamini_hochberg, "bh"),
    ] {
        let tested: Vec<f64> = family.iter().filter_map(|draft| draft.alarm).collect();
        let name = if tested.len() > 1 { name } else { "none" };
        let mut adjusted = adjust(&tested).into_iter();
        for draft in family {
            let p = draft.alarm.and_then(|_| adjusted.next());
            settled.push(draft.settle(p, name, alpha));
        }
    }
    settled
}

fn notes(baseline: &[Run], candidate: &[Run], seeds: Seeds) -> Vec<String> {
    let mut notes = Vec::new();
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
    let scored = baseline.iter().chain(candidate).any(|run| run.manifest.kind == "score");
    if scored {
        notes.push("completions that others generated: sampler, cap and terminators are not known to agree".into());
    }
    notes
}
