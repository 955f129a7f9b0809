//! The reward that a reward model gives the conversation with its answer.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo};

/// `reward`. Its values come from `smpo_eval::reward`.
pub static INFO: MetricInfo = MetricInfo {
    id: "reward",
    name: "Reward",
    unit: Unit::Number,
    better: Direction::Higher,
    primary: false,
    binary: false,
    leaderboard: None,
    summary: false,
    description: "the number that a reward model gives prompt and answer, on a scale of its own",
    reference: "Ouyang et al. 2022, arXiv 2203.02155",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric::teacher_forced(&INFO)];
