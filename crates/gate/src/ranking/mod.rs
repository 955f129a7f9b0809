//! The figures of a leaderboard: boards of comparable runs, ranks of entries, differences to a baseline, curves over the
//! length of completions, and the completions worth reading.

mod bands;
mod columns;
mod common;
mod completions;
mod curves;
mod differences;
mod entries;
mod estimates;
mod worst;

use std::collections::BTreeSet;

use smpo_results::{Board, BoardEntry, BoardMetric, Direction, Sampler};

use crate::error::GateError;
use crate::pass_k;
use crate::policy::Policy;
use crate::run::Run;
use columns::Columns;
use completions::Completions;
use entries::{Entry, Group};

/// Confidence of every interval on a board.
const CONFIDENCE: f64 = 0.95;

/// Options of a leaderboard.
pub struct RankingOptions<'a> {
    /// The entry that others are compared with; `None`: the first of each board.
    pub baseline: Option<&'a str>,
    /// Its non-inferiority margins are drawn in the forest plot; each pass^k that it asks for is a column.
    pub policy: Option<&'a Policy>,
    /// Bootstrap resamples of each difference.
    pub resamples: usize,
    /// Seed of all resampling.
    pub seed: u64,
    /// Completions kept per entry for the sample browser.
    pub worst_per_entry: usize,
    /// Prompts, by slice and id, whose completions are kept whatever their flaws: those that a verdict names.
    pub wanted: BTreeSet<(String, String)>,
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
        let known: Vec<String> =
            groups.iter().flat_map(|group| &group.entries).map(|entry| entry.name.clone()).collect();
        if !known.iter().any(|other| other == name) {
            let suggestion = smpo_suggest::did_you_mean(name, known.iter().map(String::as_str));
            return Err(GateError::UnknownEntry { name: name.to_owned(), suggestion, known });
        }
    }
    groups.into_iter().map(|group| board(group, options)).collect()
}

fn board(Group { mut entries, apart }: Group, options: &RankingOptions) -> Result<Board, GateError> {
    let runs = entries.iter_mut().flat_map(|entry| &mut entry.runs);
    pass_k::measure(options.policy.map_or(&[][..], |policy| &policy.rules), runs);
    let metrics = board_metrics(&entries);
    let primary: Vec<&BoardMetric> = metrics.iter().filter(|m| m.primary).collect();
    let columns = Columns::new(&entries, &primary);
    let ranking = bands::rank(&columns);

    let baseline = options.baseline.and_then(|name| entries.iter().position(|entry| entry.name == name)).unwrap_or(0);
    let comparisons = differences::to_baseline(&entries, baseline, &metrics, options)?;
    let Completions { lifetimes, flaws } = completions::read(&entries)?;
    let worst = completions::worst(&entries, &flaws.wanted(options))?;
    let answered = common::answered(&entries);

    let mut rows: Vec<Option<BoardEntry>> = Vec::with_capacity(entries.len());
    for ((index, entry), (comparisons, worst)) in entries.iter().enumerate().zip(comparisons.into_iter().zip(worst)) {
        let curves = curves::of(&lifetimes[index]);
        let mut metrics = estimates::of(entry, options)?;
        if let Some(prompts) = &answered.common {
            metrics.extend(common::estimates(entry, prompts, options)?);
        }
        rows.push(Some(BoardEntry {
            name: entry.name.clone(),
            rank_band: ranking.bands[index],
            prompts: Some(answered.counts[index]),
            metrics,
            comparisons,
            survival: curves.survival,
            hazard: curves.hazard,
            worst,
            provenance: entry.runs.iter().map(|run| run.manifest.clone()).collect(),
            card: None,
            sample_files: Vec::new(),
        }));
    }
    Ok(Board {
        title: title(&entries),
        apart,
        common_prompts: answered.common.as_ref().map(BTreeSet::len),
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
                description: description(&estimate.metric),
            });
        }
    }
    metrics.sort_by_key(|metric| !metric.primary); // stable
    metrics
}

fn description(metric: &str) -> String {
    match smpo_metrics::pass_k::parse(metric) {
        Some((info, k)) => {
            format!("probability that all of {k} samples of a prompt are good; of one: {}", info.description)
        }
        None => smpo_metrics::find(metric).map_or("", |info| info.description).to_owned(),
    }
}

/// `ood-240, T 0.8, cap 240, 4 samples a prompt`
fn title(entries: &[Entry]) -> String {
    let manifest = &entries[0].runs[0].manifest;
    let mut parts = vec![manifest.suite.name.clone()];
    parts.extend(manifest.sampler.as_ref().map(sampler));
    parts.extend(manifest.cap.map(|cap| format!("cap {cap}")));
    if manifest.samples_per_prompt > 1 {
        parts.push(format!("{} samples a prompt", manifest.samples_per_prompt));
    }
    parts.join(", ")
}

/// `T 0.8, top-p 0.95`
fn sampler(sampler: &Sampler) -> String {
    let Sampler { temperature, top_k, top_p, min_p } = sampler;
    let mut parts = vec![if *temperature == 0.0 { "greedy".to_owned() } else { format!("T {temperature}") }];
    parts.extend(top_k.map(|k| format!("top-k {k}")));
    parts.extend(top_p.map(|p| format!("top-p {p}")));
    parts.extend(min_p.map(|p| format!("min-p {p}")));
    parts.join(", ")
}
