//! A gate's verdict for terminals, CI summaries and CI dashboards.

pub mod junit;
pub mod markdown;
pub mod row;
pub mod text;

use row::Row;
use smpo_results::{Decision, NotJudged, Verdict};

use crate::inert::{apart, short_line};
use crate::wording;

/// Rows of every report: primary ones first, and of both kinds what failed first.
pub(crate) fn rows(verdict: &Verdict) -> Vec<Row> {
    let mut rows: Vec<Row> = verdict.metrics.iter().map(Row::new).collect();
    rows.sort_by_key(|row| (!row.primary, severity(row.decision))); // stable: the policy's order within
    rows
}

fn severity(decision: Decision) -> u8 {
    match decision {
        Decision::Fail => 0,
        Decision::Inconclusive => 1,
        Decision::Pass => 2,
    }
}

/// The verdict in one line: `candidate smpo against baseline sft on ood-chat: 2 of 3 primary metrics fail; not judged: EOS rate`.
pub(crate) fn headline(verdict: &Verdict) -> String {
    let [baseline, candidate] = names(verdict, 80);
    let suite = verdict.suite.as_deref().map(|suite| format!(" on {}", short_line(suite, 80))).unwrap_or_default();
    format!("candidate {candidate} against baseline {baseline}{suite}: {}", outcome(verdict))
}

/// Names of baseline and candidate, told apart.
pub(crate) fn names(verdict: &Verdict, limit: usize) -> [String; 2] {
    let mut names = apart(&[&verdict.baseline, &verdict.candidate], limit).into_iter();
    std::array::from_fn(|_| names.next().unwrap_or_default())
}

/// The decision over all primary metrics, and what it leaves out: `1 of 2 primary metrics passes; not judged: EOS rate`.
pub(crate) fn outcome(verdict: &Verdict) -> String {
    let primary: Vec<_> = verdict.metrics.iter().filter(|m| m.primary).map(|m| m.verdict).collect();
    let all = primary.len() + verdict.skipped.iter().filter(|rule| rule.primary).count();
    let total = wording::count(all, "primary metric");
    let of = |decision| primary.iter().filter(|other| **other == decision).count();
    let outcome = match verdict.verdict {
        _ if primary.is_empty() => "no primary metric was judged".to_owned(),
        Decision::Pass if of(Decision::Pass) == 1 => format!("1 of {total} passes"),
        Decision::Pass => format!("{} of {total} pass", of(Decision::Pass)),
        Decision::Fail if of(Decision::Fail) == 1 => format!("1 of {total} fails"),
        Decision::Fail => format!("{} of {total} fail", of(Decision::Fail)),
        Decision::Inconclusive => format!("{} of {total} undecided", of(Decision::Inconclusive)),
    };
    match verdict.not_judged.as_slice() {
        [] => outcome,
        parts => format!("{outcome}; not judged: {}", not_judged(parts)),
    }
}

/// The subjects, as many as a headline holds.
fn not_judged(parts: &[NotJudged]) -> String {
    const MOST: usize = 6;
    let mut names: Vec<String> = parts.iter().take(MOST).map(|part| short_line(&part.subject, 80)).collect();
    if parts.len() > MOST {
        names.push(format!("{} more", parts.len() - MOST));
    }
    names.join(", ")
}

/// Heading of the column of intervals, with their confidence: `90 % interval`.
pub(crate) fn interval_heading(verdict: &Verdict) -> String {
    match verdict.metrics.first() {
        Some(metric) if metric.level.is_finite() => format!("{} % interval", row::trimmed_percent(metric.level)),
        _ => "interval".to_owned(),
    }
}

/// The column of p values explained.
pub(crate) const P_EXPLAINED: &str = "p is two-sided, of no difference at all. It decides nothing alone: a pass rests on \
    the interval, a fail on the one-sided p of harm and on an estimate beyond the margin";

/// Policy, alpha, resamples, seed and runs, in one line.
pub(crate) fn basis(verdict: &Verdict) -> String {
    let runs = |n: usize| wording::count(n, "run");
    format!(
        "policy {}, α = {}, {} resamples, seed {}; {} of the baseline, {} of the candidate",
        short_line(&verdict.policy, 80),
        verdict.alpha,
        wording::thousands(verdict.resamples as usize),
        verdict.seed,
        runs(verdict.baseline_runs.len()),
        runs(verdict.candidate_runs.len()),
    )
}

/// Rules that were skipped, parts that were not judged and notes to the reader, one line each.
pub(crate) fn asides(verdict: &Verdict) -> Vec<String> {
    let line =
        |subject: &str, reason: &str| format!("not judged: {}: {}", short_line(subject, 120), short_line(reason, 300));
    let parts = verdict.not_judged.iter().map(|part| line(&part.subject, &part.reason));
    let skipped = verdict.skipped.iter().filter(|rule| !rule.primary).map(|rule| {
        let subject = format!("{} on {} (secondary)", wording::metric(&rule.metric), wording::slice(&rule.slice));
        line(&subject, &rule.reason)
    });
    parts.chain(skipped).chain(verdict.notes.iter().map(|note| short_line(note, 400))).collect()
}
