//! The finding of a rule in one sentence: how the metric moved, how sure that is, and how it stands to the requirement.

use smpo_results::{Decision, Unit};

use crate::contrast::Evidence;
use crate::policy::{Require, Rule};

/// `EOS rate`, `Loop rate on story`.
pub(crate) fn subject(metric: &str, slice: &str) -> String {
    let name = smpo_metrics::pass_k::name(metric).unwrap_or_else(|| metric.replace('_', " "));
    if slice == "all" { name } else { format!("{name} on {}", slice.replace('_', " ")) }
}

/// `EOS rate fell by 26.67 points (90 % interval -32.10 to -21.20), more than the 2 points allowed`.
pub(crate) fn sentence(rule: &Rule, unit: Unit, evidence: &Evidence, level: f64, decision: Decision) -> String {
    let subject = subject(&rule.metric, &rule.slice);
    let relative = evidence.baseline.is_some();
    let seen = if relative { moved(evidence, unit) } else { format!("is {}", unit.quantity(evidence.estimate, false)) };
    let [low, high] = [evidence.interval.low, evidence.interval.high].map(|end| unit.quantity(end, relative));
    let low = low.split(' ').next().unwrap_or_default();
    let level = format!("{:.2}", 100.0 * level);
    let level = level.trim_end_matches('0').trim_end_matches('.');
    format!("{subject} {seen} ({level} % interval {low} to {high}){}", outcome(rule.require, unit, evidence, decision))
}

/// `fell by 26.67 points`.
fn moved(evidence: &Evidence, unit: Unit) -> String {
    if evidence.differing == 0 {
        return "did not move on any prompt".to_owned();
    }
    let amount = unit.quantity(evidence.estimate.abs(), true);
    match evidence.estimate {
        _ if amount == unit.quantity(0.0, true) => "did not move".to_owned(),
        rise if rise > 0.0 => format!("rose by {amount}"),
        _ => format!("fell by {amount}"),
    }
}

/// The finding's relation to the requirement.
fn outcome(require: Require, unit: Unit, evidence: &Evidence, decision: Decision) -> String {
    let (margin, bound) = (unit.margin(require.value()), unit.bound(require.value()));
    match (require, decision) {
        (Require::NonInferior(0.0), Decision::Fail) => format!(", and nothing worse is allowed{}", hedge(evidence)),
        (Require::NonInferior(_), Decision::Fail) => format!(", more than the {margin} allowed{}", hedge(evidence)),
        (Require::NonInferior(_), Decision::Pass) => format!(": not worse by the {margin} allowed"),
        (Require::NonInferior(_), Decision::Inconclusive) => {
            format!(": neither a regression nor its absence beyond {margin} is shown")
        }
        (Require::Superior(0.0), Decision::Fail) => format!(", not better{}", hedge(evidence)),
        (Require::Superior(_), Decision::Fail) => format!(", less than the {margin} better that are required"),
        (Require::Superior(0.0), Decision::Pass) => ": better".to_owned(),
        (Require::Superior(_), Decision::Pass) => format!(": better by more than {margin}"),
        (Require::Superior(0.0), Decision::Inconclusive) => ": neither better nor worse is shown".to_owned(),
        (Require::Superior(_), Decision::Inconclusive) => {
            format!(": neither better by {margin} nor its contrary is shown")
        }
        (Require::Equivalent(_), Decision::Fail) => format!(", more than {margin} away{}", hedge(evidence)),
        (Require::Equivalent(_), Decision::Pass) => format!(": within {margin} either way"),
        (Require::Equivalent(_), Decision::Inconclusive) => {
            format!(": neither within {margin} either way nor beyond is shown")
        }
        (Require::AtLeast(_), Decision::Fail) => format!(", less than the {bound} required"),
        (Require::AtLeast(_), Decision::Pass) => format!(", at least the {bound} required"),
        (Require::AtLeast(_), Decision::Inconclusive) => format!(": neither {bound} and more nor less is shown"),
        (Require::AtMost(_), Decision::Fail) => format!(", more than the {bound} allowed"),
        (Require::AtMost(_), Decision::Pass) => format!(", at most the {bound} allowed"),
        (Require::AtMost(_), Decision::Inconclusive) => format!(": neither {bound} and less nor more is shown"),
    }
}

/// A remark where the test shows what the wider interval does not.
fn hedge(evidence: &Evidence) -> &'static str {
    if evidence.interval.contains(0.0) {
        " (the test of a difference is exact here, the interval is wider: few prompts moved)"
    } else {
        ""
    }
}
