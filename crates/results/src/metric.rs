//! `metrics.json`: estimates with intervals, per metric and slice.

use serde::{Deserialize, Serialize};

/// Direction in which a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither: context for the reader (length, for example).
    Neither,
}

/// The unit of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A share from 0 to 1.
    Share,
    /// Natural-log probability.
    Nats,
    /// Tokens.
    Tokens,
    /// A plain ratio.
    Ratio,
    /// A rank from 0.
    Rank,
    /// A number on a scale of its own.
    Number,
}

/// One estimate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricEstimate {
    /// Metric id (`eos_rate`).
    pub metric: String,
    /// Slice; `all` over every prompt of the suite.
    pub slice: String,
    /// The estimate.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub ci_low: f64,
    /// Upper end of the 95 % interval.
    pub ci_high: f64,
    /// Number of prompts.
    pub n: usize,
    /// Unit of the value.
    pub unit: Unit,
    /// Direction in which the metric is better.
    pub better: Direction,
    /// Primary metrics rank and gate; the others explain.
    pub primary: bool,
}

/// `metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsFile {
    /// [`crate::SCHEMA_VERSION`] of the writer.
    pub schema: u32,
    /// All estimates; slice `all` first.
    pub metrics: Vec<MetricEstimate>,
}

impl MetricsFile {
    /// The estimate of a metric on a slice.
    pub fn get(&self, metric: &str, slice: &str) -> Option<&MetricEstimate> {
        self.metrics.iter().find(|m| m.metric == metric && m.slice == slice)
    }
}
