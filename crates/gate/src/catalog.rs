//! The metrics that evaluations of this project write. A run's own `metrics.json` has the last word on unit
//! and direction; the catalogue serves where a run lacks a metric: to tell "not measured here" from "no such
//! metric".

use smpo_results::{Direction, Unit};

/// A metric by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Id in every file.
    pub id: &'static str,
    /// Unit of its values.
    pub unit: Unit,
    /// Which way is better.
    pub better: Direction,
}

const fn metric(id: &'static str, unit: Unit, better: Direction) -> Metric {
    Metric { id, unit, better }
}

/// Every metric that an evaluation can write.
pub const METRICS: &[Metric] = &[
    metric("eos_rate", Unit::Share, Direction::Higher),
    metric("loop_rate", Unit::Share, Direction::Lower),
    metric("exact_match", Unit::Share, Direction::Higher),
    metric("stops_when_right", Unit::Share, Direction::Higher),
    metric("broken_rate", Unit::Share, Direction::Lower),
    metric("foreign_script", Unit::Share, Direction::Lower),
    metric("seq_rep_1", Unit::Share, Direction::Lower),
    metric("seq_rep_2", Unit::Share, Direction::Lower),
    metric("seq_rep_3", Unit::Share, Direction::Lower),
    metric("seq_rep_4", Unit::Share, Direction::Lower),
    metric("zlib_ratio", Unit::Ratio, Direction::Neither),
    metric("p_cap", Unit::Share, Direction::Lower),
    metric("length", Unit::Tokens, Direction::Neither),
    metric("eos_logp_gold", Unit::Nats, Direction::Higher),
    metric("eos_rank_gold", Unit::Rank, Direction::Lower),
    metric("pref_accuracy", Unit::Share, Direction::Higher),
    metric("pref_accuracy_without_eos", Unit::Share, Direction::Higher),
    metric("margin", Unit::Nats, Direction::Higher),
    metric("eos_hazard", Unit::Share, Direction::Neither),
    metric("distinct_1", Unit::Share, Direction::Higher),
    metric("distinct_2", Unit::Share, Direction::Higher),
    metric("distinct_3", Unit::Share, Direction::Higher),
    metric("self_bleu", Unit::Share, Direction::Lower),
    metric("error_rate", Unit::Share, Direction::Lower),
];

/// The metric of this id.
pub fn find(id: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.id == id)
}
