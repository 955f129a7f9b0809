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
