//! `leaderboard.json`: any number of models over the same prompts, ranked, with intervals, samples and provenance.

use serde::{Deserialize, Serialize};

use crate::{Direction, RunManifest, Sample, Unit};

/// The metrics of a board, in the order of its columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoardMetric {
    /// Metric id.
    pub id: String,
    /// Unit.
    pub unit: Unit,
    /// Direction in which the metric is better.
    pub better: Direction,
    /// True if entries are ranked by it.
    pub primary: bool,
    /// One sentence for the column's tooltip.
    pub description: String,
}

/// A point of a curve over the length in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Tokens.
    pub t: f64,
    /// Share still running (survival), or stopping now (hazard).
    pub y: f64,
}

/// The difference of one entry to the board's baseline, paired by prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Metric id.
    pub metric: String,
    /// entry − baseline.
    pub difference: f64,
    /// Lower end of its 95 % interval.
    pub ci_low: f64,
    /// Upper end.
    pub ci_high: f64,
    /// Non-inferiority margin drawn in the forest plot; `None` if the policy has none.
    pub margin: Option<f64>,
}

/// Slice of estimates over the prompts that all entries of a board answered. No suite has a slice of this name.
pub const COMMON_PROMPTS: &str = "(common)";

/// A setting of the training run behind an entry that is another in the run it is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedSetting {
    /// Key, with dots for tables: `loss.eos_term`.
    pub key: String,
    /// Its value in the run that this one is compared with; absent where that run has no such key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// Its own value; absent where it has no such key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// SHA-256 of a part of an entry's model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHash {
    /// `weights`, `adapter`, `tokenizer`, `chat template`, or `data` with the file's name.
    pub part: String,
    /// The hash as it is recorded; of data the run's own hash over its rows.
    pub hash: String,
}

/// Model card of an entry: its settings where they differ, and the hashes of its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmCard {
    /// The entry that `settings` are compared with: the baseline where it was trained here, else the first that was. Absent
    /// for that entry itself, and for a model whose training run is not at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// Settings that differ, by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<ChangedSetting>,
    /// Hashes, of the first run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<PartHash>,
}

/// One model on a board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoardEntry {
    /// Display name.
    pub name: String,
    /// First and last rank of its band (1-based): ranks that the data cannot separate share a band.
    pub rank_band: (usize, usize),
    /// Prompts that it answered, in every run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<usize>,
    /// All estimates, slices included; where the entries answered different prompts, also over [`COMMON_PROMPTS`].
    pub metrics: Vec<crate::MetricEstimate>,
    /// Differences to the baseline; empty for the baseline itself.
    pub comparisons: Vec<Comparison>,
    /// Kaplan–Meier share of completions still running after t tokens.
    pub survival: Vec<CurvePoint>,
    /// Share of running completions that stop per token, in the bin that ends at t.
    pub hazard: Vec<CurvePoint>,
    /// The worst completions, worst first, for the sample browser.
    pub worst: Vec<WorstSample>,
    /// Manifests of the runs, one per training seed.
    pub provenance: Vec<RunManifest>,
    /// Its model card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<ArmCard>,
    /// Full samples beside the page, as relative links; empty if they were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sample_files: Vec<String>,
}

/// A completion for the sample browser, with its flaws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstSample {
    /// The completion; token ids and log-probs may be left out to keep the page small.
    pub sample: Sample,
    /// Bytes cut from the end of `sample.completion` to keep the page small; 0 for a whole one.
    #[serde(default)]
    pub omitted_bytes: usize,
    /// Flaws: `loop`, `runaway`, `no EOS`, `broken`, …; empty for a sound completion shown beside.
    pub flags: Vec<String>,
    /// Byte range of the loop in the completion, and the byte length of one period.
    pub loop_span: Option<LoopSpan>,
}

/// The looping tail of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopSpan {
    /// First byte of the repetition.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// Bytes of one period.
    pub period: usize,
}

/// One board: models over one suite, one sampler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// Suite and sampler.
    pub title: String,
    /// Reason for which these entries are not on the first board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<String>,
    /// Prompts that all entries answered, if they did not answer the same ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_prompts: Option<usize>,
    /// Name of the entry that the others are compared with.
    pub baseline: Option<String>,
    /// Columns.
    pub metrics: Vec<BoardMetric>,
    /// Rows, best first.
    pub entries: Vec<BoardEntry>,
}

/// `leaderboard.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaderboard {
    /// [`crate::SCHEMA_VERSION`] of the writer.
    pub schema: u32,
    /// Title of the page.
    pub title: String,
    /// One board per suite and sampler.
    pub boards: Vec<Board>,
    /// Verdicts shown above the boards.
    pub verdicts: Vec<crate::Verdict>,
}
