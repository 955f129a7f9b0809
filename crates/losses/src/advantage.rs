//! Advantages: rewards of a group's completions in terms of each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_stats::distribution::normal_quantile;

/// The advantages of a group's completions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// (R − mean) / standard deviation, of the group as a whole population.
    #[default]
    #[serde(alias = "z")]
    ZNorm,
    /// The worst reward is −1, the best 1, the others between them in proportion.
    #[serde(alias = "min_max")]
    Minmax,
    /// Normal scores: the reward of rank i of G has the normal quantile of (i − ½)/G. Equal rewards share the mean of theirs.
    #[serde(alias = "quantile_normal")]
    QuantileNorm,
    /// (R − median) / (1.4826·MAD). Where more than half of the rewards are equal, so that the MAD is 0, the mean absolute
    /// deviation from the median times 1.2533 takes its place: either estimates a normal standard deviation.
    Robust,
}

/// Median absolute deviation of a normal distribution, in standard deviations, inverted.
const MAD_TO_DEVIATION: f64 = 1.482_602_218_505_602;
/// The same of its mean absolute deviation: √(π/2).
const MEAN_AD_TO_DEVIATION: f64 = 1.253_314_137_315_500_3;
/// Rewards that differ by less, relative to the largest, are equal but for rounding.
const ROUNDING: f64 = 1e-12;

/// True if a group's rewards say nothing: there are fewer than two, or all are equal.
pub fn is_degenerate(rewards: &[f64]) -> bool {
    let largest = largest(rewards);
    let (low, high) = range(rewards);
    rewards.len() < 2 || high / largest - low / largest <= ROUNDING || largest == 0.0
}

impl Advantage {
    /// Advantages of completions with `rewards`, which are finite; all 0 for rewards that say nothing.
    pub fn of(self, rewards: &[f64]) -> Vec<f64> {
        if is_degenerate(rewards) {
            return vec![0.0; rewards.len()];
        }
        // In units of the largest no sum and no square overflows.
        let unit = largest(rewards);
        let rewards: Vec<f64> = rewards.iter().map(|reward| reward / unit).collect();
        match self {
            Self::ZNorm => {
                let mean = mean(&rewards);
                let squares = rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>();
                scaled(&rewards, mean, (squares / rewards.len() as f64).sqrt())
            }
            Self::Minmax => {
                let (low, high) = range(&rewards);
                scaled(&rewards, (low + high) / 2.0, (high - low) / 2.0)
            }
            Self::QuantileNorm => normal_scores(&rewards),
            Self::Robust => {
                let centre = median(&rewards);
                let deviations: Vec<f64> = rewards.iter().map(|reward| (reward - centre).abs()).collect();
                let robust = MAD_TO_DEVIATION * median(&deviations);
                let spread = if robust > ROUNDING { robust } else { MEAN_AD_TO_DEVIATION * mean(&deviations) };
                scaled(&rewards, centre, spread)
            }
        }
    }
}

fn scaled(rewards: &[f64], centre: f64, unit: f64) -> Vec<f64> {
    rewards.iter().map(|reward| (reward - centre) / unit).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn largest(rewards: &[f64]) -> f64 {
    rewards.iter().fold(0.0, |largest, reward| reward.abs().max(largest))
}

fn range(rewards: &[f64]) -> (f64, f64) {
    rewards.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), reward| (low.min(*reward), high.max(*reward)))
}

/// Mean of the two in the middle of an even number.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let above = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[above] } else { (sorted[above - 1] + sorted[above]) / 2.0 }
}

fn normal_scores(rewards: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..rewards.len()).collect();
    order.sort_by(|a, b| rewards[*a].total_cmp(&rewards[*b]));
    let score = |rank: usize| normal_quantile((rank as f64 + 0.5) / rewards.len() as f64);
    let mut scores = vec![0.0; rewards.len()];
    let mut rank = 0;
    for equal in order.chunk_by(|a, b| rewards[*b] - rewards[*a] <= ROUNDING) {
        let sum: f64 = (rank..rank + equal.len()).map(score).sum();
        equal.iter().for_each(|&index| scores[index] = sum / equal.len() as f64);
        rank += equal.len();
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        // scipy.stats.norm.ppf
        for (p, expected) in [
            (0.5, 0.0),
            (0.025, -1.959_963_984_540_054_5),
            (0.9, 1.281_551_565_544_600_4),
            (0.95, 1.644_853_626_951_472_2),
            (1e-6, -4.753_424_308_822_899),
            (1e-10, -6.361_340_902_404_056),
        ] {
            assert!((normal_quantile(p) - expected).abs() < 1e-12, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn a_majority_of_equal_rewards_has_a_spread_of_its_own() {
        // MAD 0; mean absolute deviation 1/5
        let got = Advantage::Robust.of(&[0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(got, [0.0, 0.0, 1.0 / (0.2 * MEAN_AD_TO_DEVIATION), 0.0, 0.0]);
        let got = Advantage::Robust.of(&[1.0, 2.0, 4.0]);
        assert_eq!(got, [-1.0 / MAD_TO_DEVIATION, 0.0, 2.0 / MAD_TO_DEVIATION].map(|a: f64| a));
    }

    #[test]
    fn equal_rewards_share_their_scores() {
        let got = Advantage::QuantileNorm.of(&[2.0, 1.0, 1.0, 5.0]);
        let (low, next) = (normal_quantile(0.125), normal_quantile(0.375));
        assert_eq!(got, [normal_quantile(0.625), (low + next) / 2.0, (low + next) / 2.0, normal_quantile(0.875)]);
    }

    #[test]
    fn rewards_of_any_size_have_finite_advantages() {
        for advantage in [Advantage::ZNorm, Advantage::Minmax, Advantage::QuantileNorm, Advantage::Robust] {
            for rewards in [[f64::MAX, f64::MIN, 0.0], [1e-300, 2e-300, 3e-300], [5e-324, 0.0, 0.0]] {
                let got = advantage.of(&rewards);
                assert!(got.iter().all(|a| a.is_finite()) && got.iter().any(|a| *a != 0.0), "{advantage:?} {got:?}");
            }
        }
    }

    #[test]
    fn rewards_that_are_equal_but_for_rounding_say_nothing() {
        assert!(is_degenerate(&[0.1 + 0.2, 0.3]) && is_degenerate(&[7.0]) && is_degenerate(&[0.0, -0.0]));
        assert!(!is_degenerate(&[0.0, 1e-9]) && !is_degenerate(&[1e9, 1e9 + 1.0]));
    }
}
