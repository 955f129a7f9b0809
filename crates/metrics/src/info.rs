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

    /// Least and greatest value that it can have.
    pub fn range(&self) -> (f64, f64) {
        match self.unit {
            Unit::Share => (0.0, 1.0),
            Unit::Nats if self.id.contains("logp") => (f64::NEG_INFINITY, 0.0),
            Unit::Nats | Unit::Tokens | Unit::Ratio | Unit::Rank => (0.0, f64::INFINITY),
            Unit::Number => (f64::NEG_INFINITY, f64::INFINITY),
        }
    }
}
