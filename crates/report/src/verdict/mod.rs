//! A gate's verdict for terminals, CI summaries and CI dashboards.

pub mod junit;
pub mod markdown;
pub mod row;
pub mod text;

use smpo_results::{Decision, Verdict};

use crate::wording;

/// The verdict in one line: `regular against sft: 2 of 3 primary metrics fail`.
pub(crate) fn headline(verdict: &Verdict) -> String {
    let primary: Vec<_> = verdict.metrics.iter().filter(|m| m.primary).map(|m| m.verdict).collect();
    let total = wording::count(primary.len(), "primary metric");
    let one = primary.len() == 1;
    let of = |decision| primary.iter().filter(|other| **other == decision).count();
    let outcome = match verdict.verdict {
        _ if primary.is_empty() => "no primary metric was judged".to_owned(),
        Decision::Pass => format!("{} of {total} {}", of(Decision::Pass), if one { "passes" } else { "pass" }),
        Decision::Fail => format!("{} of {total} {}", of(Decision::Fail), if one { "fails" } else { "fail" }),
        Decision::Inconclusive => format!("{} of {total} undecided", of(Decision::Inconclusive)),
    };
    format!(
        "{} against {}: {outcome}",
        crate::inert::short_line(&verdict.candidate, 80),
        crate::inert::short_line(&verdict.baseline, 80)
    )
}

/// Policy, alpha, resamples, seed and runs, in one line.
pub(crate) fn basis(verdict: &Verdict) -> String {
    let runs = |n: usize| wording::count(n, "run");
    format!(
        "policy {}, α = {}, {} resamples, seed {}; {} of the baseline, {} of the candidate",
        crate::inert::short_line(&verdict.policy, 80),
        verdict.alpha,
        wording::thousands(verdict.resamples as usize),
        verdict.seed,
        runs(verdict.baseline_runs.len()),
        runs(verdict.candidate_runs.len()),
    )
}

/// Rules that were skipped and notes to the reader, one line each.
pub(crate) fn asides(verdict: &Verdict) -> Vec<String> {
    let skipped = verdict.skipped.iter().map(|rule| {
        format!(
            "not judged: {} on {}: {}",
            wording::metric(&rule.metric),
            wording::slice(&rule.slice),
            crate::inert::short_line(&rule.reason, 300)
        )
    });
    skipped.chain(verdict.notes.iter().map(|note| crate::inert::short_line(note, 400))).collect()
}
