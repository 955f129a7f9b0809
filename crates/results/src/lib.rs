//! The on-disk schema of runs, samples, measurements, verdicts and leaderboards: plain data that every
//! other crate reads and writes, versioned, written whole, read with errors that name the line.
//!
//! An evaluation directory holds
//!
//! | file | type | what |
//! |---|---|---|
//! | `run.json` | [`RunManifest`] | model, suite, sampler: everything two runs must share to be comparable |
//! | `samples.jsonl` | [`Sample`] | one completion a line, appended as it finishes |
//! | `measurements.jsonl` | [`Measurement`] | one prompt a line: each metric's values, by sample; input of the gate |
//! | `metrics.json` | [`MetricsFile`] | estimates with intervals, per metric and slice |
//!
//! `smpo logps` writes token log-probs of pairs, one [`LogpsRow`] a line. A gate writes `verdict.json` ([`Verdict`]); a leaderboard writes `leaderboard.json` ([`Leaderboard`]).

pub mod files;
pub mod leaderboard;
pub mod logps;
pub mod manifest;
pub mod measurement;
mod measurements;
pub mod metric;

pub mod sample;
pub mod verdict;
mod wording;

pub use files::{Error, for_each_jsonl, read_json, read_jsonl, write_json, write_jsonl};
pub use leaderboard::{
    ArmCard, Board, BoardEntry, BoardMetric, COMMON_PROMPTS, ChangedSetting, Comparison, CurvePoint, Leaderboard,
    LoopSpan, PartHash, WorstSample,
};
pub use logps::{LogpsError, LogpsRow, TokenLogps, parse_logps};
pub use manifest::{
    EvaluationDir, FidelityInfo, ModelInfo, Observed, RewardModelInfo, RunManifest, ServerInfo, SuiteInfo,
    TerminatorSet, WorkerInfo,
};
pub use measurement::Measurement;
pub use measurements::{Column, Measurements};
pub use metric::{Direction, MetricEstimate, MetricsFile, Unit};
pub use sample::{FinishReason, Message, Sample};
pub use smpo_sampling::Sampler;
pub use verdict::{
    ClaimScope, Decision, ExitCode, Flip, Flips, MetricVerdict, NotJudged, PairCounts, Requirement, SkippedRule,
    Verdict,
};

/// The version of every file in this crate. Readers refuse a newer one and say so.
pub const SCHEMA_VERSION: u32 = 1;
