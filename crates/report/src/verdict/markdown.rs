//! A verdict for a CI step summary: primary metrics first, the rest folded, far below GitHub's limit of 1 MiB.

use std::fmt::Write;

use smpo_results::{Decision, Verdict};

use super::row::Row;
use super::{asides, basis, headline};
use crate::inert::markdown::{code, text};
use crate::wording;

/// A summary stops growing here, a quarter of what a GitHub step may write; `verdict.json` holds the rest.
pub const MAX_BYTES: usize = 256 * 1024;

/// Markdown in GitHub's dialect.
pub fn render(verdict: &Verdict) -> String {
    let rows: Vec<Row> = verdict.metrics.iter().map(Row::new).collect();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "## {} {}: {}\n",
        sign(verdict.verdict),
        capital(wording::decision(verdict.verdict)),
        text(&headline(verdict))
    );
    let _ = writeln!(out, "This is {}.\n", wording::claim(verdict.claim));
    let (deciding, other): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.primary);
    table(&mut out, &deciding);
    reasons(&mut out, &deciding);
    if !other.is_empty() {
        let _ = writeln!(out, "<details><summary>{}</summary>\n", wording::count(other.len(), "secondary comparison"));
        table(&mut out, &other);
        reasons(&mut out, &other);
        out.push_str("</details>\n\n");
    }
    for aside in asides(verdict).iter().take(50) {
        let _ = writeln!(out, "- {}", text(aside));
    }
    out.push_str("\n<details><summary>How this was decided</summary>\n\n");
    let _ = writeln!(out, "- {}", text(&basis(verdict)));
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
    out
}

fn table(out: &mut String, rows: &[&Row]) {
    if rows.is_empty() {
        return;
    }
    out.push_str("| metric | baseline | candidate | difference | interval | p | requirement | verdict |\n");
    out.push_str("|---|--:|--:|--:|--:|--:|---|---|\n");
    for (index, row) in rows.iter().enumerate() {
        if out.len() > MAX_BYTES / 2 {
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

fn reasons(out: &mut String, rows: &[&Row]) {
    let open: Vec<_> = rows.iter().filter(|row| row.decision != Decision::Pass).collect();
    for (index, row) in open.iter().enumerate() {
        if out.len() > MAX_BYTES * 3 / 4 {
            let _ = writeln!(out, "- {} more in `verdict.json`", wording::count(open.len() - index, "reason"));
            break;
        }
        let power = if row.power.is_empty() { String::new() } else { format!(" ({})", row.power) };
        let _ = writeln!(out, "- **{}**: {}{}", text(&row.subject()), text(&row.reason), text(&power));
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

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
