//! The main table: one row per model, the interval of a primary metric drawn beside its numbers.

use smpo_results::{Board, BoardEntry, BoardMetric, COMMON_PROMPTS, Direction, Unit};

use super::{ALL, band, overall, own_prompts, scale};
use crate::inert::short_line;
use crate::{figure, wording};

/// A column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) primary: bool,
    /// Hidden until all metrics are shown.
    pub(crate) extra: bool,
    /// Better first: the direction of the first sort.
    pub(crate) better: &'static str,
    /// `higher is better`.
    pub(crate) hint: &'static str,
    /// Labels of the ends of the axis.
    pub(crate) axis: Option<(String, String)>,
}

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct TableRow {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) band: String,
    pub(crate) baseline: bool,
    pub(crate) note: String,
    pub(crate) cells: Vec<Cell>,
}

/// One value.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) primary: bool,
    pub(crate) extra: bool,
    pub(crate) value: String,
    pub(crate) interval: String,
    /// Ends of the interval and the value, in per cent of the axis.
    pub(crate) glyph: Option<[f64; 3]>,
}

/// Number of columns shown at once.
const DEFAULT_COLUMNS: usize = 6;

pub(crate) fn columns(board: &Board) -> Vec<Column> {
    let mut secondary: Vec<&str> = board.metrics.iter().filter(|m| !m.primary).map(|m| m.id.as_str()).collect();
    // The catalogue's order of columns first, then the board's.
    let column = |id: &str| smpo_metrics::find(id).and_then(|info| info.leaderboard);
    secondary.sort_by_key(|id| column(id).unwrap_or(u8::MAX));
    let room = DEFAULT_COLUMNS.saturating_sub(board.metrics.len() - secondary.len());
    let mut hidden = secondary.split_off(room.min(secondary.len()));
    // The policy asked for it.
    hidden.retain(|id| smpo_metrics::pass_k::parse(id).is_none());
    board
        .metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| {
            let extra = !metric.primary && hidden.contains(&metric.id.as_str());
            Column {
                index,
                name: wording::metric(&metric.id).into_owned(),
                description: short_line(&metric.description, 400),
                primary: metric.primary,
                extra,
                better: match metric.better {
                    Direction::Higher | Direction::Neither => "descending",
                    Direction::Lower => "ascending",
                },
                hint: match metric.better {
                    Direction::Higher => "higher is better",
                    Direction::Lower => "lower is better",
                    Direction::Neither => "",
                },
                axis: metric
                    .primary
                    .then(|| shown_slice(board, metric))
                    .flatten()
                    .map(|(_, [low, high])| (end_label(metric.unit, low), end_label(metric.unit, high))),
            }
        })
        .collect()
}

/// The slice whose values the table shows first, with its axis.
fn shown_slice<'a>(board: &'a Board, metric: &BoardMetric) -> Option<(&'a str, [f64; 2])> {
    let slice = if let Some(slice) = [COMMON_PROMPTS, ALL].into_iter().find(|s| scale::of(board, metric, s).is_some()) {
        slice
    } else {
        board.entries.iter().find_map(|entry| overall(entry, &metric.id)).map(|e| e.slice.as_str())?
    };
    scale::of(board, metric, slice).map(|range| (slice, range))
}

/// An axis end without needless digits.
pub(crate) fn end_label(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Share => {
            let text = format!("{:.1}", value * 100.0);
            format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => figure::value(unit, value),
    }
}

pub(crate) fn rows(board: &Board, columns: &[Column]) -> Vec<TableRow> {
    let ranges: Vec<Option<[f64; 2]>> =
        board.metrics.iter().map(|metric| shown_slice(board, metric).map(|(_, range)| range)).collect();
    board
        .entries
        .iter()
        .enumerate()
        .map(|(index, entry)| TableRow {
            index,
            name: short_line(&entry.name, 120),
            band: band(entry),
            baseline: board.baseline.as_deref() == Some(entry.name.as_str()),
            note: note(board, entry),
            cells: columns
                .iter()
                .zip(&board.metrics)
                .zip(&ranges)
                .map(|((column, metric), range)| cell(entry, column, metric, *range))
                .collect(),
        })
        .collect()
}

fn note(board: &Board, entry: &BoardEntry) -> String {
    let seeds = Some(entry.provenance.len()).filter(|seeds| *seeds > 1).map(|n| wording::count(n, "training seed"));
    let prompts = own_prompts(board, entry).map(|n| format!("answered {}", wording::count(n, "prompt")));
    seeds.into_iter().chain(prompts).collect::<Vec<_>>().join(", ")
}

fn cell(entry: &BoardEntry, column: &Column, metric: &BoardMetric, range: Option<[f64; 2]>) -> Cell {
    let estimate = overall(entry, &metric.id);
    let (value, interval) = match estimate {
        None => ("–".to_owned(), String::new()),
        Some(e) => (figure::value(e.unit, e.value), figure::interval(e.unit, e.ci_low, e.ci_high)),
    };
    let glyph = estimate.zip(range).filter(|_| column.primary).map(|(e, range)| {
        let at = |value: f64| (scale::position(range, value) * 10.0).round() / 10.0;
        [at(e.ci_low), at(e.ci_high), at(e.value)]
    });
    Cell { primary: column.primary, extra: column.extra, value, interval, glyph }
}
