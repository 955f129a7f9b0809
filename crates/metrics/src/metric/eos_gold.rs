//! Terminator log-prob and rank after a gold answer.
//!
//! Needs no sampling, and changes first: training pushes the terminator's probability down long before sampled
//! completions fail to end.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo};
use smpo_sampling::TokenScores;

/// `eos_logp_gold` and `eos_rank_gold`.
pub static INFOS: [MetricInfo; 2] = [
    MetricInfo {
        id: "eos_logp_gold",
        name: "Gold EOS log p",
        unit: Unit::Nats,
        better: Direction::Higher,
        primary: true,
        binary: false,
        leaderboard: Some(4),
        summary: false,
        description: "log p of the terminator set right after the gold answer, teacher-forced",
        reference: "smpo",
    },
    MetricInfo {
        id: "eos_rank_gold",
        name: "Gold EOS rank",
        unit: Unit::Rank,
        better: Direction::Lower,
        primary: false,
        binary: false,
        leaderboard: None,
        summary: false,
        description: "tokens that the model finds likelier than its best terminator right after the gold answer",
        reference: "smpo",
    },
];

/// The entries of the catalogue.
pub static METRICS: &[Metric] = &[Metric::teacher_forced(&INFOS[0]), Metric::teacher_forced(&INFOS[1])];

/// The values of one gold completion, in the order of [`INFOS`].
pub fn measure(gold: &TokenScores) -> [f64; 2] {
    [gold.terminator_logp, f64::from(gold.terminator_rank)]
}
