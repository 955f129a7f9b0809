//! Three findings of a board: the highest EOS rate, the highest loop rate, the certainty of the ranking.

use std::collections::HashMap;

use smpo_results::{Board, BoardEntry, MetricEstimate, manifest};

use super::{band, coverage, overall};
use crate::inert::{NAME, apart};
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
    let names = Names::of(board);
    vec![stops(board, &names), loops(board, &names), certainty(board, &names)]
}

/// Names of the models as they are shown, by the names that they have.
struct Names<'a>(HashMap<&'a str, String>);

impl<'a> Names<'a> {
    fn of(board: &'a Board) -> Self {
        let whole: Vec<&str> = board.entries.iter().map(|entry| entry.name.as_str()).collect();
        let shown = apart(&whole, NAME);
        Names(whole.into_iter().zip(shown).collect())
    }

    fn shown(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// Entries with the metric, by its value ascending; ties in the board's order.
fn by_value<'a>(board: &'a Board, metric: &str) -> Vec<(&'a BoardEntry, &'a MetricEstimate)> {
    let mut rows: Vec<_> =
        board.entries.iter().filter_map(|entry| overall(entry, metric).map(|estimate| (entry, estimate))).collect();
    rows.sort_by(|a, b| a.1.value.total_cmp(&b.1.value));
    rows
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

/// The finding of a value that is 0 in every model.
fn none(question: &'static str, note: &str) -> Finding {
    Finding { answer: "No model".to_owned(), ..unknown(question, note) }
}

/// The entries with this value, by name; their number where they are more than two.
fn holders(rows: &[(&BoardEntry, &MetricEstimate)], value: f64, names: &Names<'_>) -> String {
    let holding = rows.iter().filter(|row| row.1.value == value);
    let names: Vec<String> = holding.map(|row| names.shown(&row.0.name).to_owned()).collect();
    match names.len() {
        1 | 2 => smpo_suggest::list(&names),
        n => format!("{n} models"),
    }
}

/// One extreme of a metric, and the other in its note.
fn extremes(
    question: &'static str,
    rows: &[(&BoardEntry, &MetricEstimate)],
    [shown, other]: [f64; 2],
    of: &str,
    names: &Names<'_>,
) -> Option<Finding> {
    let (_, estimate) = rows.iter().find(|row| row.1.value == shown)?;
    let unit = estimate.unit;
    let note = match shown == other {
        true => format!("{of} in every model"),
        false => format!("{of}; fewest: {}, {}", holders(rows, other, names), figure::value(unit, other)),
    };
    Some(Finding {
        question,
        answer: holders(rows, shown, names),
        figure: figure::value(unit, shown),
        interval: figure::interval(unit, estimate.ci_low, estimate.ci_high),
        note: if rows.len() == 1 { of.to_owned() } else { note },
    })
}

/// The least and the greatest value of rows in ascending order.
fn ends(rows: &[(&BoardEntry, &MetricEstimate)]) -> Option<[f64; 2]> {
    Some([rows.first()?.1.value, rows.last()?.1.value])
}

fn stops(board: &Board, names: &Names<'_>) -> Finding {
    const QUESTION: &str = "Ends most answers";
    let rows = by_value(board, "eos_rate");
    let found = match ends(&rows) {
        Some([_, 0.0]) => Some(none(QUESTION, "no completion of any model ends by itself before the cap")),
        Some([low, high]) => {
            extremes(QUESTION, &rows, [high, low], "of completions end by themselves before the cap", names)
        }
        None => None,
    };
    let untold = untold_ends(board, names);
    match (found, untold) {
        (Some(found), None) => found,
        (Some(found), Some(untold)) => Finding { note: format!("{}; {untold}", found.note), ..found },
        (None, Some(untold)) => unknown(QUESTION, &untold),
        (None, None) => unknown(QUESTION, "these completions do not say how they ended"),
    }
}

/// The answers whose files do not tell how they ended.
fn untold_ends(board: &Board, names: &Names<'_>) -> Option<String> {
    let of = |entry: &BoardEntry| -> usize {
        entry.provenance.iter().filter_map(|run| run.observed.untold.get(manifest::FINISH_REASON)).sum()
    };
    let silent: Vec<(&BoardEntry, usize)> =
        board.entries.iter().map(|entry| (entry, of(entry))).filter(|(_, count)| *count > 0).collect();
    let answers = wording::count(silent.iter().map(|(_, count)| count).sum(), "answer");
    let whose = match silent.as_slice() {
        [] => return None,
        [(one, _)] => names.shown(&one.name).to_owned(),
        several if several.len() == board.entries.len() => "all models".to_owned(),
        several => format!("{} models", several.len()),
    };
    Some(format!("EOS unknown for {answers} of {whose}: not judged"))
}

fn loops(board: &Board, names: &Names<'_>) -> Finding {
    const QUESTION: &str = "Loops most";
    let rows = by_value(board, "loop_rate");
    match ends(&rows) {
        Some([_, 0.0]) => none(QUESTION, "no completion of any model ends in a cycle"),
        Some([low, high]) => extremes(QUESTION, &rows, [high, low], "of completions end in a cycle", names)
            .unwrap_or_else(|| unknown(QUESTION, "")),
        None => unknown(QUESTION, "loops were not measured"),
    }
}

fn certainty(board: &Board, names: &Names<'_>) -> Finding {
    let first = &board.entries[0];
    let leaders: Vec<&BoardEntry> = board.entries.iter().filter(|e| e.rank_band.0 <= 1).collect();
    let leading: Vec<String> = leaders.iter().map(|entry| names.shown(&entry.name).to_owned()).collect();
    let alike = leaders.iter().all(|entry| entry.rank_band == first.rank_band);
    let answer = match leaders.len() {
        _ if board.entries.len() == 1 => "One model, nothing to rank".to_owned(),
        0 | 1 => format!("Rank 1 is {} alone", names.shown(&first.name)),
        2..=3 if alike => format!("{} share rank {}", smpo_suggest::list(&leading), band(first)),
        n if alike => format!("{n} models share rank {}", band(first)),
        2..=3 => {
            let bands: Vec<String> = leaders.iter().map(|entry| band(entry)).collect();
            format!("{} may each be first: ranks {}", smpo_suggest::list(&leading), bands.join(", "))
        }
        n => format!("Each of {n} models may be first"),
    };
    let mut parts = vec!["95 % intervals".to_owned()];
    parts.extend(Some(coverage(board)).filter(|coverage| !coverage.is_empty()));
    parts.extend(differing(board, names));
    Finding { question: "How sure", answer, figure: String::new(), interval: String::new(), note: parts.join("; ") }
}

/// The number of models that differ from the baseline in how answers end, by each of two metrics.
fn differing(board: &Board, names: &Names<'_>) -> Option<String> {
    let baseline = board.baseline.as_ref()?;
    let mut told: Vec<String> = Vec::new();
    let mut most = 0;
    for metric in ["eos_rate", "loop_rate"] {
        let others = board.entries.iter().filter(|entry| &entry.name != baseline);
        let compared: Vec<_> =
            others.filter_map(|entry| entry.comparisons.iter().find(|c| c.metric == metric)).collect();
        if compared.is_empty() {
            continue;
        }
        most = most.max(compared.len());
        let apart = compared.iter().filter(|c| c.ci_low > 0.0 || c.ci_high < 0.0).count();
        let name = wording::metric(metric).replacen('L', "l", 1);
        let models = wording::count(compared.len(), "model");
        told.push(match (told.is_empty(), compared.len()) {
            (true, 1) => format!("{apart} of {models} differs from {} in {name}", names.shown(baseline)),
            (true, _) => format!("{apart} of {models} differ from {} in {name}", names.shown(baseline)),
            (false, _) => format!("{apart} in {name}"),
        });
    }
    let unadjusted = if most > 1 { " (each at 95 %, not adjusted for their number)" } else { "" };
    (!told.is_empty()).then(|| told.join(", ") + unadjusted)
}
