//! The loss of a token in supervised fine-tuning.

use crate::batch::Completion;
use crate::sum::{sum, sum_of_pairs};
use crate::vector::{exp, ln};

/// The loss of a token with log-prob ℓ = log p; its mean over tokens is the objective.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Likelihood {
    /// −ℓ.
    #[default]
    Nll,
    /// −p·ℓ, p a constant of the gradient.
    Scaled,
    /// −p.
    Probability,
    /// −(H/3)^α·ℓ, H the entropy of the 20 likeliest tokens.
    EntropyScaled {
        /// At least 0.
        alpha: f64,
    },
}

/// Entropy in nats that EAFT's factor is 1 at: about ln 20, the entropy of 20 equally likely tokens.
const FULL_ENTROPY: f64 = 3.0;

impl Likelihood {
    /// Derivatives of `each` times the loss of every token, `[T]`.
    pub(crate) fn weights(self, completion: &Completion<'_>, each: f64) -> Vec<f64> {
        let logps = completion.logps.iter();
        match self {
            Self::Nll => logps.map(|_| -each).collect(),
            Self::Scaled | Self::Probability => logps.map(|logp| -each * exp(*logp)).collect(),
            Self::EntropyScaled { alpha } => {
                let share = |entropy: &f64| if *entropy > 0.0 { entropy / FULL_ENTROPY } else { 0.0 };
                let entropies = completion.entropy.unwrap_or_default().iter().map(share);
                if alpha == 1.0 {
                    entropies.map(|share| -each * share).collect()
                } else {
                    entropies.map(|share| -each * exp(alpha * ln(share))).collect()
                }
            }
        }
    }

    /// The losses of the tokens that have these weights.
    pub(crate) fn value(self, completion: &Completion<'_>, weights: &[f64]) -> f64 {
        match self {
            Self::Probability => sum(weights),
            // a factor, which has no gradient, times −ℓ
            Self::Nll | Self::Scaled | Self::EntropyScaled { .. } => {
                sum_of_pairs(weights, completion.logps, |weight, logp| weight * logp)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_of_a_token_has_the_value_and_the_derivative_of_its_formula() {
        // p = ½ and ¼, H = 1.5 and 0.75: H/3 = ½ and ¼
        let (ln2, end) = (std::f64::consts::LN_2, [false, true]);
        let logps = [-ln2, -2.0 * ln2];
        let completion = Completion::new(&logps, &end).with_entropy(&[1.5, 0.75]);
        for (likelihood, derivatives, value) in [
            (Likelihood::Nll, [-1.0, -1.0], 3.0 * ln2),
            (Likelihood::Scaled, [-0.5, -0.25], ln2),
            (Likelihood::Probability, [-0.5, -0.25], -0.75),
            (Likelihood::EntropyScaled { alpha: 1.0 }, [-0.5, -0.25], ln2),
            (Likelihood::EntropyScaled { alpha: 2.0 }, [-0.25, -0.0625], 0.375 * ln2),
        ] {
            let near = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-14, "{likelihood:?}: {got}");
            let weights = likelihood.weights(&completion, 2.0);
            weights.iter().zip(derivatives).for_each(|(weight, derivative)| near(*weight, 2.0 * derivative));
            near(likelihood.value(&completion, &weights), 2.0 * value);
        }
    }

    #[test]
    fn a_token_without_entropy_has_next_to_no_weight() {
        for alpha in [0.5, 1.0, 2.0] {
            let completion = Completion::new(&[-1.0; 3], &[false; 3]).with_entropy(&[0.0, -0.0, -1e-5]);
            let weights = Likelihood::EntropyScaled { alpha }.weights(&completion, 1.0);
            assert!(weights.iter().all(|weight| weight.abs() < 1e-100), "{alpha}: {weights:?}");
        }
    }
}
