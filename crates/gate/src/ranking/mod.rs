//! The figures of a leaderboard: boards of comparable runs, ranks of entries, differences to a baseline, curves over the
//! length of completions, and the completions worth reading.

mod bands;
mod columns;
mod curves;
mod differences;
mod entries;
mod estimates;
mod worst;

use smpo_results::{Board, BoardEntry, BoardMetric, Direction, Sampler};

use crate::error::GateError;
use crate::policy::Policy;
use crate::run::Run;
use columns::Columns;
use entries::Entry;

/// Confidence of every interval on a board.
const CONFIDENCE: f64 = 0.95;

/// Options of a leaderboard.
pub struct RankingOptions<'a> {
    /// The entry that others are compared with; `None`: the first of each board.
    pub baseline: Option<&'a str>,
    /// Its non-inferiority margins are drawn in the forest plot.
    pub policy: Option<&'a Policy>,
    /// Bootstrap resamples of each difference.
    pub resamples: usize,
    /// Seed of all resampling.
    pub seed: u64,
    /// Completions kept per entry for the sample browser.
    pub worst_per_entry: usize,
    /// A longer completion is cut to this many bytes, and says so.
    pub completion_bytes: usize,
}

/// Builds the boards: one for each suite, sampler and cap, in the order in which the runs were given. Runs of one
/// arm with different training seeds are one entry.
///
/// # Errors
/// If no board has the requested baseline, samples cannot be read, or numbers are not finite.
pub fn boards(runs: Vec<Run>, options: &RankingOptions) -> Result<Vec<Board>, GateError> {
    let groups = entries::group(runs)?;
    if let Some(name) = options.baseline {
        let known: Vec<String> = groups.iter().flatten().map(|entry| entry.name.clone()).collect();
        if !known.iter().any(|other| other == name) {
            let suggestion = smpo_suggest::did_you_mean(name, known.iter().map(String::as_str));
            return Err(GateError::UnknownEntry { name: name.to_owned(), suggestion, known });
        }
    }
    groups.into_iter().map(|entries| board(entries, options)).collect()
}

fn board(entries: Vec<Entry>, options: &RankingOptions) -> Result<Board, GateError> {
    let metrics = board_metrics(&entries);
    let primary: Vec<&BoardMetric> = metrics.iter().filter(|m| m.primary).collect();
    let columns = Columns::new(&entries, &primary);
    let ranking = bands::rank(&columns);

    let baseline = options.baseline.and_then(|name| entries.iter().position(|entry| entry.name == name)).unwrap_or(0);
    let comparisons = differences::to_baseline(&entries, baseline, &metrics, options)?;
    let completions = entries.iter().map(Entry::samples).collect::<Result<Vec<_>, _>>()?;
    let worst = worst::choose(&entries, &completions, options);

    let mut rows: Vec<Option<BoardEntry>> = Vec::with_capacity(entries.len());
    for ((index, entry), (comparisons, worst)) in entries.iter().enumerate().zip(comparisons.into_iter().zip(worst)) {
        let curves = curves::of(&completions[index]);
        rows.push(Some(BoardEntry {
            name: entry.name.clone(),
            rank_band: ranking.bands[index],
            metrics: estimates::of(entry, options)?,
            comparisons,
            survival: curves.survival,
            hazard: curves.hazard,
            worst,
            provenance: entry.runs.iter().map(|run| run.manifest.clone()).collect(),
            sample_files: Vec::new(),
        }));
    }
    Ok(Board {
        title: title(&entries),
        baseline: (entries.len() > 1).then(|| entries[baseline].name.clone()),
        metrics,
        entries: ranking.order.iter().filter_map(|index| rows[*index].take()).collect(),
    })
}

/// Every metric that some run declares, primary ones first, otherwise in the order of the files.
fn board_metrics(entries: &[Entry]) -> Vec<BoardMetric> {
    let mut metrics: Vec<BoardMetric> = Vec::new();
    for estimate in entries.iter().flat_map(|entry| &entry.runs).flat_map(|run| &run.metrics.metrics) {
        if !metrics.iter().any(|known| known.id == estimate.metric) {
            metrics.push(BoardMetric {
                id: estimate.metric.clone(),
                unit: estimate.unit,
                better: estimate.better,
                primary: estimate.primary && estimate.better != Direction::Neither,
                description: smpo_metrics::find(&estimate.metric).map_or("", |info| info.description).to_owned(),
            });
        }
    }
    metrics.sort_by_key(|metric| !metric.primary); // stable
    metrics
}

/// `ood-240, T 0.8, cap 240, 4 samples a prompt`
fn title(entries: &[Entry]) -> String {
    let manifest = &entries[0].runs[0].manifest;
    let mut parts = vec![manifest.suite.name.clone()];
    if let Some(Sampler { temperature, top_k, top_p, min_p }) = &manifest.sampler {
        parts.push(if *temperature == 0.0 { "greedy".to_owned() } else { format!("T {temperature}") });
        parts.extend(top_k.map(|k| format!("top-k {k}")));
        parts.extend(top_p.map(|p| format!("top-p {p}")));
        parts.extend(min_p.map(|p| format!("min-p {p}")));
    }
    parts.extend(manifest.cap.map(|cap| format!("cap {cap}")));
    if manifest.samples_per_prompt > 1 {
        parts.push(format!("{} samples a prompt", manifest.samples_per_prompt));
    }
    parts.join(", ")
}
