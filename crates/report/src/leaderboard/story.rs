//! Three findings of a board: the highest EOS rate, the highest loop rate, the certainty of the ranking.

use smpo_results::{Board, BoardEntry, MetricEstimate};

use super::{band, overall};
use crate::inert::short_line;
use crate::{figure, wording};

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The question.
    pub question: &'static str,
    /// The answer: mostly a model's name.
    pub answer: String,
    /// The number, if there is one.
    pub figure: String,
    /// Its interval.
    pub interval: String,
    /// Context of the number.
    pub note: String,
}

/// The findings of a board, in reading order.
pub fn tell(board: &Board) -> Vec<Finding> {
    if board.entries.is_empty() {
        return Vec::new();
    }
    vec![stops(board), loops(board), certainty(board)]
}

fn name(entry: &BoardEntry) -> String {
    short_line(&entry.name, 60)
}

/// Entries with the metric, by its value ascending; ties in the board's order.
fn by_value<'a>(board: &'a Board, metric: &str) -> Vec<(&'a BoardEntry, &'a MetricEstimate)> {
    let mut rows: Vec<_> =
        board.entries.iter().filter_map(|entry| overall(entry, metric).map(|estimate| (entry, estimate))).collect();
    rows.sort_by(|a, b| a.1.value.total_cmp(&b.1.value));
    rows
}

fn finding(question: &'static str, entry: &BoardEntry, estimate: &MetricEstimate, note: String) -> Finding {
    Finding {
        question,
        answer: name(entry),
        figure: figure::value(estimate.unit, estimate.value),
        interval: figure::interval(estimate.unit, estimate.ci_low, estimate.ci_high),
        note,
    }
}

fn unknown(question: &'static str, note: &str) -> Finding {
    Finding {
        question,
        answer: "Not known".to_owned(),
        figure: String::new(),
        interval: String::new(),
        note: note.to_owned(),
    }
}

fn stops(board: &Board) -> Finding {
    let rows = by_value(board, "eos_rate");
    let best = rows.iter().map(|row| row.1.value).fold(f64::NEG_INFINITY, f64::max);
    match (rows.iter().find(|row| row.1.value == best), rows.first()) {
        (Some((entry, estimate)), Some((last, least))) => {
            let note = if rows.len() == 1 {
                "of completions end by themselves before the cap".to_owned()
            } else {
                format!(
                    "of completions end by themselves; fewest: {}, {}",
                    name(last),
                    figure::value(least.unit, least.value)
                )
            };
            finding("Keeps stopping", entry, estimate, note)
        }
        _ => unknown("Keeps stopping", "these completions do not say how they ended"),
    }
}

fn loops(board: &Board) -> Finding {
    let rows = by_value(board, "loop_rate");
    match (rows.last(), rows.first()) {
        (Some((_, most)), _) if most.value == 0.0 => Finding {
            question: "Loops most",
            answer: "Nobody".to_owned(),
            figure: figure::value(most.unit, 0.0),
            interval: figure::interval(most.unit, most.ci_low, most.ci_high),
            note: "no completion of any model ends in a cycle".to_owned(),
        },
        (Some((entry, estimate)), Some((least, fewest))) => {
            let note = if rows.len() == 1 {
                "of completions end in a cycle".to_owned()
            } else {
                format!(
                    "of completions end in a cycle; fewest: {}, {}",
                    name(least),
                    figure::value(fewest.unit, fewest.value)
                )
            };
            finding("Loops most", entry, estimate, note)
        }
        _ => unknown("Loops most", "loops were not measured"),
    }
}

fn certainty(board: &Board) -> Finding {
    let first = &board.entries[0];
    let leaders: Vec<String> = board.entries.iter().filter(|e| e.rank_band.0 <= 1).map(name).collect();
    let answer = match leaders.len() {
        _ if board.entries.len() == 1 => "One model, nothing to rank".to_owned(),
        0 | 1 => format!("Rank 1 is {} alone", name(first)),
        2..=3 => format!("{} share rank {}", wording::list(&leaders), band(first)),
        n => format!("{n} models share rank {}", band(first)),
    };
    let prompts = board.entries.iter().flat_map(|e| &e.metrics).map(|e| e.n).max().unwrap_or(0);
    let mut note = format!("95 % intervals over {}", wording::count(prompts, "prompt"));
    if let Some(baseline) = &board.baseline {
        let compared: Vec<_> =
            board.entries.iter().filter(|e| &e.name != baseline && !e.comparisons.is_empty()).collect();
        for metric in ["loop_rate", "eos_rate"] {
            let compared: Vec<_> =
                compared.iter().filter_map(|e| e.comparisons.iter().find(|c| c.metric == metric)).collect();
            if compared.is_empty() {
                continue;
            }
            let apart = compared.iter().filter(|c| c.ci_low > 0.0 || c.ci_high < 0.0).count();
            note.push_str(&format!(
                "; {apart} of {} differ from {} in {}",
                wording::count(compared.len(), "model"),
                short_line(baseline, 60),
                wording::metric(metric).to_lowercase()
            ));
            break;
        }
    }
    Finding { question: "How sure", answer, figure: String::new(), interval: String::new(), note }
}
