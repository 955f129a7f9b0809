//! Data of the page's script: compact arrays, rounded to visible digits.

use serde::Serialize;
use smpo_results::{Board, COMMON_PROMPTS, Leaderboard};

use super::curve::{Point, round, thin};
use super::samples::{self, Browser};
use super::{ALL, changes, estimate, provenance, scale};
use crate::inert::short_line;
use crate::{Error, wording};

/// The document in `<script id="data">`.
#[derive(Debug, Serialize)]
pub(crate) struct PageData {
    pub(crate) boards: Vec<BoardData>,
}

/// `[value, low, high, n]`.
type Estimate = (Option<f64>, Option<f64>, Option<f64>, usize);
/// `[difference, low, high, margin]`.
type Difference = (Option<f64>, Option<f64>, Option<f64>, Option<f64>);

/// One board.
#[derive(Debug, Serialize)]
pub(crate) struct BoardData {
    baseline: Option<usize>,
    metrics: Vec<MetricData>,
    slices: Vec<SliceData>,
    entries: Vec<EntryData>,
    pub(crate) samples: Browser,
}

#[derive(Debug, Serialize)]
struct MetricData {
    id: String,
    name: String,
    unit: smpo_results::Unit,
    better: smpo_results::Direction,
    primary: bool,
    /// The axis on each slice.
    range: Vec<Option<[f64; 2]>>,
}

#[derive(Debug, Serialize)]
struct SliceData {
    id: String,
    name: String,
}

#[derive(Debug, Serialize)]
struct EntryData {
    name: String,
    /// By metric, then by slice.
    est: Vec<Vec<Option<Estimate>>>,
    /// By metric.
    diff: Vec<Option<Difference>>,
    survival: Vec<Point>,
    hazard: Vec<Point>,
    files: Vec<String>,
}

/// The page's data with no samples yet.
pub(crate) fn without_samples(leaderboard: &Leaderboard) -> PageData {
    PageData { boards: leaderboard.boards.iter().map(board).collect() }
}

/// Fills in samples, `budget` bytes over all boards.
pub(crate) fn add_samples(data: &mut PageData, leaderboard: &Leaderboard, budget: usize) -> Result<(), Error> {
    let share = budget / leaderboard.boards.len().max(1);
    let wanted = changes::prompts(&leaderboard.verdicts);
    for (data, board) in data.boards.iter_mut().zip(&leaderboard.boards) {
        data.samples = samples::choose(board, &wanted, share)?;
    }
    Ok(())
}

/// The slices of a board in order of appearance, the one that summaries show first.
pub(crate) fn slices(board: &Board) -> Vec<String> {
    let mut slices: Vec<String> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for estimate in board.entries.iter().flat_map(|entry| &entry.metrics) {
        if seen.insert(&estimate.slice) {
            slices.push(estimate.slice.clone());
        }
    }
    slices.sort_by_key(|slice| (slice != COMMON_PROMPTS, slice != ALL));
    slices
}

fn board(board: &Board) -> BoardData {
    let slices = slices(board);
    // 200 models: 2 × 100 points each; five models: 2 × 240
    let points = (20_000 / board.entries.len().max(1)).clamp(40, 240);
    let metrics = board
        .metrics
        .iter()
        .map(|metric| MetricData {
            id: short_line(&metric.id, 120),
            name: wording::metric(&metric.id).into_owned(),
            unit: metric.unit,
            better: metric.better,
            primary: metric.primary,
            range: slices.iter().map(|slice| scale::of(board, metric, slice)).collect(),
        })
        .collect();
    let number = |value: f64| value.is_finite().then(|| round(value, 5));
    let entries = board
        .entries
        .iter()
        .map(|entry| EntryData {
            name: short_line(&entry.name, 120),
            est: board
                .metrics
                .iter()
                .map(|metric| {
                    slices
                        .iter()
                        .map(|slice| {
                            let e = estimate(entry, &metric.id, slice)?;
                            Some((number(e.value), number(e.ci_low), number(e.ci_high), e.n))
                        })
                        .collect()
                })
                .collect(),
            diff: board
                .metrics
                .iter()
                .map(|metric| {
                    let c = entry.comparisons.iter().find(|c| c.metric == metric.id)?;
                    Some((number(c.difference), number(c.ci_low), number(c.ci_high), c.margin.and_then(number)))
                })
                .collect(),
            survival: thin(&entry.survival, points),
            hazard: thin(&entry.hazard, points),
            files: entry.sample_files.iter().filter_map(|file| provenance::relative_link(file)).collect(),
        })
        .collect();
    BoardData {
        baseline: board.baseline.as_ref().and_then(|name| board.entries.iter().position(|e| &e.name == name)),
        metrics,
        slices: slices
            .iter()
            .map(|slice| SliceData { id: short_line(slice, 120), name: wording::slice(slice) })
            .collect(),
        entries,
        samples: Browser::default(),
    }
}
