//! Degeneration metrics: pure functions of token ids, text and teacher-forced log-probs. No model, no IO.
//!
//! - [`metric`]: the catalogue, one file a metric.
//! - [`sample`], [`corpus`]: the metrics of one completion and of a whole run.
//! - [`pass_k`]: all of k samples of a prompt good.
//! - [`estimate`]: means and shares over prompts with 95 % intervals.
//! - [`periodic`]: periodic tails of a sequence; [`text`]: parts of a completion, words, n-grams, scripts, special tokens, code.

pub mod corpus;
pub mod estimate;
mod info;
pub mod metric;
pub mod pass_k;
pub mod periodic;
pub mod sample;
pub mod text;

pub use corpus::{Completion, Corpus};
pub use info::MetricInfo;
pub use metric::{Metric, all, find, similar};
pub use sample::{Scratch, View, among_metrics, measure_sample, sample_metrics};
pub use smpo_sampling::TokenScores;
