//! The leaderboard as Markdown: the table, the differences, a few of the worst completions, provenance.

use std::fmt::Write;

use smpo_results::{Board, BoardMetric, Leaderboard};

use super::excerpt::{self, Piece};
use super::{band, coverage, overall, own_prompts, provenance, story};
use crate::inert::markdown::{code, code_in_cell, fence, text};
use crate::inert::runs::Run;
use crate::inert::short_line;
use crate::wording::capital;
use crate::{figure, verdict, wording};

/// Worst completions quoted per board.
const QUOTED: usize = 4;

/// Renders `leaderboard.md`, in GitHub's dialect.
pub fn render(leaderboard: &Leaderboard) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# {}\n", text(&short_line(&leaderboard.title, 120)));
    for verdict in &leaderboard.verdicts {
        let _ = writeln!(out, "- **{}** {}", wording::decision(verdict.verdict), text(&verdict::headline(verdict)));
    }
    if !leaderboard.verdicts.is_empty() {
        out.push('\n');
    }
    for board in &leaderboard.boards {
        self::board(&mut out, board);
    }
    out
}

fn board(out: &mut String, board: &Board) {
    let _ = writeln!(out, "## {}\n", text(&short_line(&board.title, 160)));
    if let Some(apart) = &board.apart {
        let _ = writeln!(out, "A board of its own: {}.\n", text(&short_line(apart, 300)));
    }
    if board.entries.is_empty() {
        out.push_str("No model on this board.\n\n");
        return;
    }
    for finding in story::tell(board) {
        let _ = write!(out, "- {}: **{}**", finding.question, text(&finding.answer));
        match (finding.figure.as_str(), finding.interval.as_str()) {
            ("", _) => out.push_str("; "),
            (figure, interval) => {
                let _ = write!(out, ", {} \\[{}\\] ", text(figure), text(interval));
            }
        }
        let _ = writeln!(out, "{}", text(&finding.note));
    }
    out.push('\n');
    estimates(out, board);
    differences(out, board);
    quotes(out, board);
    origins(out, board);
}

fn estimates(out: &mut String, board: &Board) {
    out.push_str("| rank | model |");
    for metric in &board.metrics {
        let _ = write!(out, " {} |", text(&wording::metric(&metric.id)));
    }
    out.push_str("\n|--:|---|");
    out.push_str(&"--:|".repeat(board.metrics.len()));
    out.push('\n');
    for entry in &board.entries {
        let is_baseline = board.baseline.as_deref() == Some(entry.name.as_str());
        let _ = write!(
            out,
            "| {} | {}{}{} |",
            band(entry),
            text(&short_line(&entry.name, 120)),
            if is_baseline { " (baseline)" } else { "" },
            own_prompts(board, entry).map(|n| format!(" ({})", wording::count(n, "prompt"))).unwrap_or_default()
        );
        for metric in &board.metrics {
            match overall(entry, &metric.id) {
                None => out.push_str(" – |"),
                Some(e) => {
                    let _ = write!(
                        out,
                        " {} \\[{}\\] |",
                        figure::value(e.unit, e.value),
                        figure::interval(e.unit, e.ci_low, e.ci_high)
                    );
                }
            }
        }
        out.push('\n');
    }
    out.push_str("\nBrackets: 95 % intervals. Models that no primary metric separates, or of which each is better in one, share a band of ranks.");
    let coverage = coverage(board);
    if board.common_prompts.is_some() {
        let _ = write!(out, " {}.", text(&capital(&coverage)));
    }
    out.push_str("\n\n");
}

fn differences(out: &mut String, board: &Board) {
    let Some(baseline) = &board.baseline else { return };
    let compared: Vec<&BoardMetric> = board
        .metrics
        .iter()
        .filter(|metric| board.entries.iter().any(|e| e.comparisons.iter().any(|c| c.metric == metric.id)))
        .collect();
    if compared.is_empty() {
        return;
    }
    let _ = writeln!(out, "### Difference to {}\n", text(&short_line(baseline, 120)));
    out.push_str("| model |");
    for metric in &compared {
        let _ = write!(out, " {} |", text(&wording::metric(&metric.id)));
    }
    out.push_str("\n|---|");
    out.push_str(&"--:|".repeat(compared.len()));
    out.push('\n');
    for entry in board.entries.iter().filter(|entry| !entry.comparisons.is_empty()) {
        let _ = write!(out, "| {} |", text(&short_line(&entry.name, 120)));
        for metric in &compared {
            match entry.comparisons.iter().find(|c| c.metric == metric.id) {
                None => out.push_str(" – |"),
                Some(c) => {
                    let _ = write!(
                        out,
                        " {} \\[{}\\] |",
                        figure::difference(metric.unit, c.difference),
                        figure::difference_interval(metric.unit, c.ci_low, c.ci_high)
                    );
                }
            }
        }
        out.push('\n');
    }
    out.push('\n');
}

fn quotes(out: &mut String, board: &Board) {
    let rounds = board.entries.iter().map(|entry| entry.worst.len()).max().unwrap_or(0);
    let worst: Vec<_> = (0..rounds)
        .flat_map(|round| {
            let rows = board.entries.iter().rev();
            rows.filter_map(move |entry| {
                entry.worst.iter().filter(|w| !w.flags.is_empty()).nth(round).map(|worst| (entry, worst))
            })
        })
        .take(QUOTED)
        .collect();
    if worst.is_empty() {
        return;
    }
    let _ = writeln!(out, "<details><summary>Some of the worst completions</summary>\n");
    for (entry, worst) in worst {
        let sample = &worst.sample;
        let excerpt = excerpt::completion(worst);
        let flags: Vec<String> = worst.flags.iter().map(|flag| text(&short_line(flag, 40))).collect();
        let tokens = sample.tokens.map(|n| format!(", {}", wording::count(n as usize, "token"))).unwrap_or_default();
        let cycle = excerpt
            .cycle
            .map(|c| {
                format!(", a cycle of {} × {}", wording::count(c.chars, "character"), wording::thousands(c.copies))
            })
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "**{}** on {} ({}): {}, {}{tokens}{cycle}\n",
            text(&short_line(&entry.name, 120)),
            code(&short_line(&sample.prompt_id, 120)),
            text(&wording::slice(&sample.slice)),
            flags.join(", "),
            wording::finish(sample.finish_reason),
        );
        let _ = writeln!(out, "{}", fence(&plain(&excerpt.pieces)));
    }
    out.push_str("</details>\n\n");
}

fn plain(pieces: &[Piece]) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Gap(note) => {
                let _ = write!(out, "\n[… {note} …]\n");
            }
            Piece::Text(runs) | Piece::Period(runs) | Piece::Loop(runs) => {
                for run in runs {
                    match run {
                        Run::Text(text) => out.push_str(text),
                        Run::Mark([label, _]) => {
                            let _ = write!(out, "⟨{label}⟩");
                        }
                    }
                }
            }
        }
    }
    out
}

fn origins(out: &mut String, board: &Board) {
    let provenance = provenance::of(board);
    if provenance.runs.is_empty() {
        return;
    }
    let _ = writeln!(out, "<details><summary>Provenance</summary>\n");
    for fact in &provenance.shared {
        let _ = writeln!(out, "- {}: {}", text(&fact.field), code(&fact.value));
    }
    out.push_str(
        "\n| model | source | weights SHA-256 | training seed | sampling seed | samples |\n|---|---|---|--:|--:|---|\n",
    );
    for run in &provenance.runs {
        let weights = if run.weights.is_empty() { "–".to_owned() } else { code_in_cell(&run.weights) };
        let training = if run.training_seed.is_empty() { "–" } else { &run.training_seed };
        let seed = if run.seed.is_empty() { "–" } else { &run.seed };
        let samples = run.samples.as_ref().map(|link| format!("[file]({link})")).unwrap_or_else(|| "–".to_owned());
        let own: Vec<String> =
            run.own.iter().map(|f| format!("; {} {}", text(&f.field), code_in_cell(&f.value))).collect();
        let _ = writeln!(
            out,
            "| {} | {}{} | {weights} | {training} | {seed} | {samples} |",
            text(&run.entry),
            code_in_cell(&run.source),
            own.concat(),
        );
    }
    out.push_str("\n</details>\n\n");
}
