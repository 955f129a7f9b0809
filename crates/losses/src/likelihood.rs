//! The loss of a token in supervised fine-tuning.

use crate::vector::exp;

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
    /// Value and derivative at ℓ and the entropy H.
    pub(crate) fn at(self, logp: f64, entropy: f64) -> (f64, f64) {
        let weight = match self {
            Self::Nll => 1.0,
            Self::Scaled => exp(logp),
            Self::Probability => return (-exp(logp), -exp(logp)),
            Self::EntropyScaled { alpha } => (entropy.max(0.0) / FULL_ENTROPY).powf(alpha),
        };
        (-weight * logp, -weight)
    }
}
