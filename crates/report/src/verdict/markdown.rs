//! A verdict for a CI step summary: what failed first, then what is undecided, the rest folded, far below GitHub's limit
//! of 1 MiB.

use std::fmt::Write;

use smpo_results::{Decision, Verdict};

use super::row::Row;
use super::{P_EXPLAINED, asides, basis, headline, interval_heading, rows};
use crate::inert::markdown::{code, text};
use crate::wording;

/// A summary stops growing here, a quarter of what a GitHub step may write; `verdict.json` holds the rest.
pub const MAX_BYTES: usize = 256 * 1024;

/// Parts of [`MAX_BYTES`] at which each section stops: the findings of failures may not be crowded out by the table, nor
/// the table by reasons.
const FAILURES_END: usize = MAX_BYTES / 2;
const TABLE_END: usize = MAX_BYTES / 8 * 6;
const REASONS_END: usize = MAX_BYTES / 8 * 7;

/// Markdown in GitHub's dialect.
pub fn render(verdict: &Verdict) -> String {
    let rows = rows(verdict);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "## {} {}: {}\n",
        sign(verdict.verdict),
        wording::capital(wording::decision(verdict.verdict)),
        text(&headline(verdict))
    );
    let _ = writeln!(out, "This is {}.\n", wording::claim(verdict.claim));
    let (deciding, other): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.primary);
    let heading = interval_heading(verdict);
    reasons(&mut out, &deciding, Decision::Fail, FAILURES_END);
    table(&mut out, &deciding, &heading, TABLE_END);
    reasons(&mut out, &deciding, Decision::Inconclusive, REASONS_END);
    if !other.is_empty() {
        let _ = writeln!(out, "<details><summary>{}</summary>\n", wording::count(other.len(), "secondary comparison"));
        reasons(&mut out, &other, Decision::Fail, REASONS_END);
        table(&mut out, &other, &heading, REASONS_END);
        reasons(&mut out, &other, Decision::Inconclusive, REASONS_END);
        out.push_str("</details>\n\n");
    }
    for aside in asides(verdict).iter().take(50) {
        let _ = writeln!(out, "- {}", text(aside));
    }
    decided(&mut out, verdict, &rows);
    out
}

/// Policy, runs and tests, folded.
fn decided(out: &mut String, verdict: &Verdict, rows: &[Row]) {
    out.push_str("\n<details><summary>How this was decided</summary>\n\n");
    let _ = writeln!(out, "- {}", text(&basis(verdict)));
    let _ = writeln!(out, "- {}", text(P_EXPLAINED));
    let _ = writeln!(out, "- policy SHA-256 {}", code(&crate::inert::short_line(&verdict.policy_sha256, 64)));
    let _ = writeln!(out, "- exit code {}", verdict.exit_code);
    for (role, runs) in [("baseline", &verdict.baseline_runs), ("candidate", &verdict.candidate_runs)] {
        for run in runs.iter().take(20) {
            let _ = writeln!(out, "- {role} run {}", code(&crate::inert::short_line(run, 200)));
        }
        if runs.len() > 20 {
            let _ = writeln!(out, "- {} more {role} runs in `verdict.json`", runs.len() - 20);
        }
    }
    for row in rows.iter().take(50) {
        let _ = write!(out, "- {}: {}, {} prompts", text(&row.subject()), text(&row.test), row.n);
        for more in [&row.pairs, &row.power] {
            if !more.is_empty() {
                let _ = write!(out, "; {}", text(more));
            }
        }
        out.push('\n');
    }
    out.push_str("\n</details>\n");
}

/// A table of rows, up to `end` bytes of the document.
fn table(out: &mut String, rows: &[&Row], interval: &str, end: usize) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "| metric | baseline | candidate | difference | {interval} | p | requirement | verdict |");
    out.push_str("|---|--:|--:|--:|--:|--:|---|---|\n");
    for (index, row) in rows.iter().enumerate() {
        if out.len() > end {
            let _ = writeln!(out, "\n{} more in `verdict.json`.", wording::count(rows.len() - index, "row"));
            break;
        }
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} {} |",
            text(&row.subject()),
            text(&row.baseline),
            text(&row.candidate),
            text(&row.difference),
            text(&row.interval),
            text(&row.p),
            text(&row.requirement),
            sign(row.decision),
            wording::decision(row.decision),
        );
    }
    out.push('\n');
}

/// The findings of all rows of one decision, up to `end` bytes of the document.
fn reasons(out: &mut String, rows: &[&Row], decision: Decision, end: usize) {
    let open: Vec<_> = rows.iter().filter(|row| row.decision == decision).collect();
    for (index, row) in open.iter().enumerate() {
        if out.len() > end {
            let _ = writeln!(out, "- {} more in `verdict.json`", wording::count(open.len() - index, "finding"));
            break;
        }
        let power = if row.power.is_empty() { String::new() } else { format!(" ({})", row.power) };
        let _ = writeln!(out, "- {} {}{}", sign(decision), text(&row.reason), text(&power));
    }
    if !open.is_empty() {
        out.push('\n');
    }
}

fn sign(decision: Decision) -> &'static str {
    match decision {
        Decision::Pass => "✅",
        Decision::Fail => "❌",
        Decision::Inconclusive => "❔",
    }
}
