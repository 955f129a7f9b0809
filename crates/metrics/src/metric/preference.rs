//! Accuracy and margin on held-out preference pairs: they show a model that keeps its terminator because it learned
//! nothing.
//!
//! s(y) is the mean log p per token of a completion, its terminator included: the reward of SMPO and SimPO (Meng et
//! al. 2024, arXiv 2405.14734, eq. 3) without its scale β.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo};
use crate::sample::share;
use smpo_sampling::TokenScores;

const fn info(
    id: &'static str,
    name: &'static str,
    unit: Unit,
    primary: bool,
    description: &'static str,
) -> MetricInfo {
    MetricInfo {
        id,
        name,
        unit,
        better: Direction::Higher,
        primary,
        binary: matches!(unit, Unit::Share),
        leaderboard: None,
        summary: false,
        description,
        reference: "Meng et al. 2024, SimPO, arXiv 2405.14734, eq. 3",
    }
}

/// `pref_accuracy`, `pref_accuracy_without_eos` and `margin`.
pub static INFOS: [MetricInfo; 3] = [
    info(
        "pref_accuracy",
        "Preference accuracy",
        Unit::Share,
        true,
        "share of held-out pairs whose chosen side has the larger mean log p per token",
    ),
    info(
        "pref_accuracy_without_eos",
        "Preference without EOS",
        Unit::Share,
        false,
        "the same with the terminators left out: an accuracy that falls here was bought with the terminator",
    ),
    info("margin", "Preference margin", Unit::Nats, false, "mean over held-out pairs of chosen minus rejected mean log p per token"),
];

/// The entries of the catalogue.
pub static METRICS: &[Metric] =
    &[Metric::teacher_forced(&INFOS[0]), Metric::teacher_forced(&INFOS[1]), Metric::teacher_forced(&INFOS[2])];

/// The values of one pair, in the order of [`INFOS`]. A side that is nothing but its terminator has mean log p 0
/// without it.
pub fn measure(chosen: &TokenScores, rejected: &TokenScores) -> [f64; 3] {
    [
        share(chosen.mean() > rejected.mean()),
        share(chosen.mean_without_eos() > rejected.mean_without_eos()),
        chosen.mean() - rejected.mean(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminator_can_decide_a_pair() {
        let side = |logps: &[f64]| TokenScores { logps: logps.to_vec(), terminator_logp: 0.0, terminator_rank: 0 };
        let (chosen, rejected) = (side(&[-1.0, -1.0, -0.1]), side(&[-0.9, -0.9, -6.0]));
        let [accuracy, without_eos, margin] = measure(&chosen, &rejected);
        assert_eq!((accuracy, without_eos), (1.0, 0.0));
        assert!((margin - (-0.7 + 2.6)).abs() < 1e-12);
    }
}
