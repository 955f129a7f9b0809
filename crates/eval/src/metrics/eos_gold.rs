//! After a gold answer, does the model think the turn is over?
//!
//! Needs no sampling, and it moves first: training pushes the terminator's probability down long before sampled
//! completions fail to end.

use smpo_results::{Direction, Unit};

use super::MetricInfo;
use crate::teacher_forced::TokenScores;

/// What `eos_logp_gold` and `eos_rank_gold` declare.
pub static INFOS: [MetricInfo; 2] = [
    MetricInfo {
        id: "eos_logp_gold",
        unit: Unit::Nats,
        better: Direction::Higher,
        primary: true,
        binary: false,
        description: "log p of the terminator set right after the gold answer, teacher-forced",
        reference: "smpo",
    },
    MetricInfo {
        id: "eos_rank_gold",
        unit: Unit::Rank,
        better: Direction::Lower,
        primary: false,
        binary: false,
        description: "tokens that the model finds likelier than its best terminator right after the gold answer",
        reference: "smpo",
    },
];

/// The values of one gold completion, in the order of [`INFOS`].
pub fn measure(gold: &TokenScores) -> [f64; 2] {
    [gold.terminator_logp, f64::from(gold.terminator_rank)]
}
