//! The declaration of a metric.

use smpo_results::{Direction, Unit};

/// Id, names, unit, direction and source of a metric: all that files, gates, reports and tables need of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricInfo {
    /// Id in every file: ASCII snake case (`eos_rate`).
    pub id: &'static str,
    /// Short name in reports (`EOS rate`), at most [`MetricInfo::MAX_NAME`] characters.
    pub name: &'static str,
    /// Unit of its values.
    pub unit: Unit,
    /// Direction in which a model is better.
    pub better: Direction,
    /// Primary metrics rank and gate; secondary ones explain.
    pub primary: bool,
    /// True if the value of one sample is 0 or 1.
    pub binary: bool,
    /// Position among the secondary metrics that a leaderboard shows first; `None`: after those, in the order of the
    /// catalogue.
    pub leaderboard: Option<u8>,
    /// True for a column of the table that `smpo score` prints.
    pub summary: bool,
    /// Definition in one sentence.
    pub description: &'static str,
    /// Source of the definition.
    pub reference: &'static str,
}

impl MetricInfo {
    /// Longest short name, in characters.
    pub const MAX_NAME: usize = 24;
}
