//! Gold answers, teacher-forced: log-prob and rank of the terminator after them, and the cross-entropy of their text.
//!
//! Needs no sampling, and changes first: training pushes the terminator's probability down long before sampled
//! completions fail to end. The cross-entropy shows how far the rest of the model has drifted.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo};
use smpo_sampling::TokenScores;

/// `eos_logp_gold`, `eos_rank_gold` and `gold_nll`.
pub static INFOS: [MetricInfo; 3] = [
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
    MetricInfo {
        id: "gold_nll",
        name: "Gold cross-entropy",
        unit: Unit::Nats,
        better: Direction::Lower,
        primary: false,
        binary: false,
        leaderboard: None,
        summary: false,
        description: "mean −log p per token of the gold answer, its terminator left out; with a model's own answers as gold, the drift from it",
        reference: "smpo",
    },
];

/// The entries of the catalogue.
pub static METRICS: &[Metric] =
    &[Metric::teacher_forced(&INFOS[0]), Metric::teacher_forced(&INFOS[1]), Metric::teacher_forced(&INFOS[2])];

/// The values of one gold completion, in the order of [`INFOS`]. An answer that is nothing but its terminator has
/// cross-entropy 0.
pub fn measure(gold: &TokenScores) -> [f64; 3] {
    [gold.terminator_logp, f64::from(gold.terminator_rank), 0.0 - gold.mean_without_eos()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminator_is_no_part_of_the_cross_entropy() {
        let gold = |logps: &[f64]| TokenScores { logps: logps.to_vec(), terminator_logp: -9.0, terminator_rank: 2 };
        assert_eq!(measure(&gold(&[-1.0, -2.0, -9.0])), [-9.0, 2.0, 1.5]);
        assert_eq!(measure(&gold(&[-9.0])), [-9.0, 2.0, 0.0]);
    }
}
