//! Length of completions, right-censored at the cap.
//!
//! A completion that reached its cap is right-censored: its length is only known to be at least that. A bare mean
//! would call a model that never stops "as long as the cap". So: the share at the cap, the survival curve
//! S(t) = P(length > t) (Kaplan & Meier 1958), and its area up to the largest cap, the restricted mean.

use smpo_results::{Direction, FinishReason, Sample, Unit};
use smpo_stats::survival::{Curve, Observation};

use super::{Corpus, Metric, MetricInfo, Scratch, View};
use crate::estimate::{Estimate, jackknife};
use crate::sample::share;

/// `length`.
pub static INFO: MetricInfo = MetricInfo {
    id: "length",
    name: "Length",
    unit: Unit::Tokens,
    better: Direction::Neither,
    primary: false,
    binary: false,
    leaderboard: Some(3),
    summary: false,
    description: "restricted mean length: the expected number of tokens, terminator included, up to the cap",
    reference: "Kaplan & Meier 1958; Royston & Parmar 2013, BMC Med Res Methodol 13:152",
};

/// `p_cap`.
pub static CAP_INFO: MetricInfo = MetricInfo {
    id: "p_cap",
    name: "Reached the cap",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: false,
    binary: true,
    leaderboard: Some(1),
    summary: false,
    description: "share of completions that ran into the cap",
    reference: "smpo",
};

/// The entries of the catalogue.
pub static METRICS: &[Metric] = &[
    Metric { of_ends: true, ..Metric::of_sample(&CAP_INFO, at_cap) },
    Metric { of_ends: true, corpus: Some(restricted_mean), ..Metric::of_sample(&INFO, tokens) },
];

/// 1 if the cap cut the completion.
fn at_cap(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    match view.sample.finish_reason {
        FinishReason::Length => Some(share(true)),
        FinishReason::Eos | FinishReason::Stop | FinishReason::Repetition => Some(share(false)),
        FinishReason::Unknown | FinishReason::Error => None,
    }
}

/// Tokens generated, censored or not.
fn tokens(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    Lifetime::of(view.sample).map(|lifetime| f64::from(lifetime.tokens))
}

/// Area under the survival curve up to the longest observation.
fn restricted_mean(corpus: &Corpus) -> Option<Estimate> {
    let longest = corpus.completions.iter().filter_map(|completion| Some(completion.lifetime?.tokens)).max()?;
    let mut estimate = jackknife(&corpus.completions, |lifetimes| {
        let curve = kaplan_meier(lifetimes.iter().copied())?;
        Some(curve.restricted_mean(curve.last).mean)
    })?;
    // a mean of lengths up to the longest is no longer than it
    estimate.interval.high = estimate.interval.high.min(f64::from(longest));
    Some(estimate)
}

/// Length of a completion in tokens, observed or censored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Tokens, terminator included.
    pub tokens: u32,
    /// True if the completion ended in a terminator; false if it was cut (censored).
    pub ended: bool,
}

impl Lifetime {
    /// `None` if finish or length is unknown.
    pub fn of(sample: &Sample) -> Option<Lifetime> {
        let ids = || sample.token_ids.as_ref().and_then(|ids| u32::try_from(ids.len()).ok());
        let tokens = sample.tokens.or_else(ids)?;
        match sample.finish_reason {
            FinishReason::Eos => Some(Lifetime { tokens, ended: true }),
            // A stop string cut it: censored there, like at a cap.
            FinishReason::Length | FinishReason::Stop | FinishReason::Repetition => {
                Some(Lifetime { tokens, ended: false })
            }
            FinishReason::Unknown | FinishReason::Error => None,
        }
    }
}

/// The Kaplan–Meier curve: the share of completions still running after `t` tokens, one step per length at which any
/// ended; `None` of none.
pub fn kaplan_meier(lifetimes: impl IntoIterator<Item = Lifetime>) -> Option<Curve> {
    let observed = |lifetime: Lifetime| Observation { time: f64::from(lifetime.tokens), ended: lifetime.ended };
    let observations: Vec<Observation> = lifetimes.into_iter().map(observed).collect();
    smpo_stats::survival::kaplan_meier(&observations).ok() // its only errors: no observation, or one that is not finite
}

#[cfg(test)]
pub(super) fn lived(tokens: u32, finish_reason: FinishReason) -> Sample {
    Sample { tokens: Some(tokens), finish_reason, ..crate::sample::sample("x") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FinishReason::{Eos, Length as Cap};

    fn restricted_mean(samples: &[Sample]) -> Option<f64> {
        super::restricted_mean(&Corpus::new(samples)).map(|estimate| estimate.value)
    }

    /// Worked by hand: 6 completions, two censored early.
    #[test]
    fn kaplan_meier_of_a_small_set() {
        let samples = [lived(2, Eos), lived(3, Cap), lived(4, Eos), lived(4, Eos), lived(5, Cap), lived(7, Eos)];
        let curve = super::kaplan_meier(samples.iter().filter_map(Lifetime::of)).expect("lifetimes").steps;
        let expected = [(2.0, 5.0 / 6.0), (4.0, 5.0 / 6.0 * 0.5), (7.0, 0.0)];
        assert_eq!(curve.len(), 3);
        for (step, (t, y)) in curve.iter().zip(expected) {
            assert!(step.time == t && (step.survival - y).abs() < 1e-12, "{step:?}");
        }
        // 2·1 + 2·5/6 + 3·5/12
        assert!((restricted_mean(&samples).expect("some") - (2.0 + 10.0 / 6.0 + 15.0 / 12.0)).abs() < 1e-12);
    }

    #[test]
    fn with_one_cap_the_restricted_mean_is_the_mean_of_what_was_seen() {
        let samples = [lived(10, Eos), lived(30, Eos), lived(64, Cap), lived(64, Cap)];
        assert!((restricted_mean(&samples).expect("some") - 42.0).abs() < 1e-12);
        assert_eq!(restricted_mean(&[lived(64, Cap), lived(64, Cap)]), Some(64.0));
    }

    #[test]
    fn unknown_finishes_are_not_guessed() {
        assert_eq!(restricted_mean(&[lived(10, FinishReason::Unknown)]), None);
        assert_eq!(crate::sample::value("p_cap", &lived(10, FinishReason::Unknown)), None);
        assert_eq!(crate::sample::value("p_cap", &lived(10, Cap)), Some(1.0));
        let mut counted_by_ids = lived(0, Eos);
        counted_by_ids.tokens = None;
        assert_eq!(crate::sample::value("length", &counted_by_ids), None);
        counted_by_ids.token_ids = Some(vec![4, 5, 0]);
        assert_eq!(crate::sample::value("length", &counted_by_ids), Some(3.0));
    }
}
