//! The verdict: every rule of a policy on two arms, adjusted for each other, put together once.

use smpo_results::{ClaimScope, Decision, MetricVerdict, SCHEMA_VERSION, SkippedRule, Unit, Verdict};
use smpo_stats::hierarchical::Seeds;
use smpo_stats::multiplicity;

use crate::case::{Arms, Case, bootstrap_together, check_names, prepare};
use crate::contrast::{Settings, analyse};
use crate::draft::Draft;
use crate::error::GateError;
use crate::exit::{OnInconclusive, exit_code};
use crate::headline::not_judged;
use crate::pairing::{check_comparable, seeds_of, training_seed};
use crate::policy::{Policy, Require};
use crate::run::Run;
use crate::shared::Prompts;
use crate::{flips, notes, pass_k};

/// Prompts of all rules together that a verdict lists as changed, each way.
const FLIPS: usize = 2_000;

/// Options beside the policy.
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

/// Decides on one or several evaluations (training seeds) per arm. The order of the runs within an arm does
/// not matter.
///
/// # Errors
/// If the runs cannot be compared, or the policy names a metric that cannot be tested.
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
    let derived = pass_k::derive(policy, &mut baseline, &mut candidate);

    let prompts = Prompts::of(baseline.iter().chain(&candidate));
    let arms = Arms::new(&baseline, &candidate, &prompts);
    let cases: Vec<Case> = policy.rules.iter().map(|rule| prepare(rule, policy, &arms)).collect::<Result<_, _>>()?;
    let (drafts, skipped) = test(cases, policy, seeds, options.seed)?;
    let metrics = adjust(drafts);
    let primary: Vec<Decision> = metrics.iter().filter(|m| m.primary).map(|m| m.verdict).collect();
    let verdict = combine(&primary);
    let several = baseline.len() > 1 && candidate.len() > 1;
    let claim = if several && !derived.of_checkpoints { ClaimScope::Methods } else { ClaimScope::Checkpoints };
    let mut notes = notes::of(&baseline, &candidate, seeds);
    notes.extend(derived.notes);
    if primary.is_empty() {
        notes.push("no primary rule could be judged, so nothing was decided".to_owned());
    }
    let dirs = |runs: &[Run]| runs.iter().map(|run| run.dir.display().to_string()).collect();
    Ok(Verdict {
        schema: SCHEMA_VERSION,
        verdict,
        exit_code: exit_code(verdict, options.on_inconclusive),
        not_judged: not_judged(&metrics, &skipped, [&baseline, &candidate]),
        suite: suite_name(&baseline, &candidate),
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

/// Analyses every case that can be tested; gives the drafts of all rules but the skipped ones.
fn test<'a>(
    cases: Vec<Case<'a>>,
    policy: &Policy,
    seeds: Seeds,
    seed: u64,
) -> Result<(Vec<Draft<'a>>, Vec<SkippedRule>), GateError> {
    let replicates = bootstrap_together(&cases, policy, seed)?;
    let (mut drafts, mut skipped) = (Vec::new(), Vec::new());
    let flips_limit = (FLIPS / policy.rules.len()).clamp(5, 50);
    for (case, replicates) in cases.into_iter().zip(&replicates) {
        match case {
            Case::Skipped(rule) => skipped.push(rule),
            Case::NotMeasured(draft) => drafts.push(*draft),
            Case::Testable { rule, scale, paired, shape, asked, blocked_by } => {
                let settings = Settings {
                    level: 1.0 - 2.0 * policy.alpha,
                    resamples: policy.resamples as usize,
                    seed,
                    seeds,
                    share: scale.unit == Unit::Share,
                    line: scale.harm_line(rule.require),
                    equivalence: match rule.require {
                        Require::Equivalent(margin) => Some(margin),
                        _ => None,
                    },
                    tests: true,
                };
                let evidence = analyse(&paired, &shape, replicates, settings)
                    .map_err(|source| GateError::Stats { metric: rule.metric.clone(), source })?;
                let changed = settings.share && !paired.baseline.is_empty();
                let flips = changed.then(|| flips::of(&paired, scale.sign(), flips_limit));
                drafts.push(Draft::measured(rule, policy, scale, evidence, [paired.n(), asked], flips, blocked_by));
            }
        }
    }
    Ok((drafts, skipped))
}

/// Adjusts the p values of harm of the primary rules together (Holm: family-wise error), and of the secondary ones (BH:
/// exploratory), and finalizes; primary first.
fn adjust(drafts: Vec<Draft>) -> Vec<MetricVerdict> {
    let (primary, secondary): (Vec<Draft>, Vec<Draft>) = drafts.into_iter().partition(Draft::primary);
    let mut verdicts = Vec::new();
    for (family, adjust, name) in [
        (primary, multiplicity::holm as fn(&[f64]) -> Vec<f64>, "holm"),
        (secondary, multiplicity::benjamini_hochberg, "bh"),
    ] {
        let tested: Vec<f64> = family.iter().filter_map(Draft::p_harm).collect();
        let name = if tested.len() > 1 { name } else { "none" };
        let mut adjusted = adjust(&tested).into_iter();
        for draft in family {
            let p_harm = draft.p_harm().and_then(|_| adjusted.next());
            verdicts.push(draft.finalize(p_harm, name));
        }
    }
    verdicts
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

/// The suite's name if all runs agree on one.
fn suite_name(baseline: &[Run], candidate: &[Run]) -> Option<String> {
    let mut names = baseline.iter().chain(candidate).map(|run| &run.manifest.suite.name);
    let first = names.next()?;
    names.all(|name| name == first).then(|| first.clone())
}

/// The arm's name if several runs agree on one, else the models' names.
fn arm_name(runs: &[Run]) -> String {
    match runs.first().and_then(|run| run.manifest.model.arm.as_ref()) {
        Some(arm) if runs.len() > 1 && runs.iter().all(|run| run.manifest.model.arm.as_ref() == Some(arm)) => {
            arm.clone()
        }
        _ => {
            let mut names: Vec<&str> = runs.iter().map(Run::name).collect();
            names.dedup();
            names.join(", ")
        }
    }
}
