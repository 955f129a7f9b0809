//! Factors of a pair loss that are functions of log-probs, and constants of its gradient.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::Completion;
use crate::logistic::{bounded_exp, sigmoid};
use crate::sum::{sum, sum_of_pairs};
use crate::transform::quantile::quantile;

/// Factors of a pair loss. They see ℓ as the model gave them, of all tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Factors {
    /// The loss of a pair is weighted by how likely the policy itself is to write its completions (WPO).
    pub policy_weighting: bool,
    /// Factor of the gradient on rejected.
    pub gate: Option<Gate>,
}

/// σ(α(p − τ)), p a probability of the rejected completion (Gate-DPO, Mouiche 2026, arXiv 2605.02626): the gradient on
/// rejected fades where it is unlikely already. The value of the loss stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// α.
    pub steepness: f64,
    /// τ.
    pub threshold: f64,
    /// p.
    pub estimate: GateEstimate,
}

/// The probability of a completion that opens its gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateEstimate {
    /// The geometric mean of its tokens' probabilities.
    #[default]
    Seq,
    /// The 0.1 quantile of its tokens' probabilities.
    Q10,
}

impl Gate {
    /// The factor of a completion with the log-probs `logps`.
    pub(crate) fn at(&self, logps: &[f64]) -> f64 {
        let p = match self.estimate {
            GateEstimate::Seq => (sum(logps) / logps.len() as f64).exp(),
            GateEstimate::Q10 => quantile(&mut logps.iter().map(|logp| logp.exp()).collect(), 0.1).unwrap_or(0.0),
        };
        sigmoid(self.steepness * (p - self.threshold))
    }
}

/// exp of the mean of ℓ_t − log Σ_v p_v² (WPO, Zhou et al. 2024, arXiv 2406.11827, equation 2, as TRL has it): 1 for a
/// completion that is as likely as one drawn from the policy.
pub(crate) fn policy_weight(completion: &Completion<'_>) -> f64 {
    let entropies = completion.entropy.unwrap_or_default();
    let sum = sum_of_pairs(completion.logps, entropies, |logp, entropy| logp + entropy);
    bounded_exp(sum / completion.logps.len() as f64).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_closes_on_unlikely_completions() {
        let gate = |estimate| Gate { steepness: 20.0, threshold: 0.2, estimate };
        let logps = [0.9f64, 0.4, 0.1].map(f64::ln);
        let geometric = (0.9f64 * 0.4 * 0.1).powf(1.0 / 3.0);
        assert!((gate(GateEstimate::Seq).at(&logps) - sigmoid(20.0 * (geometric - 0.2))).abs() < 1e-12);
        // the 0.1 quantile of 0.1, 0.4, 0.9: a fifth of the way from the first to the second
        assert!((gate(GateEstimate::Q10).at(&logps) - sigmoid(20.0 * (0.16 - 0.2))).abs() < 1e-12);
    }

    #[test]
    fn a_completion_at_the_expected_probability_weighs_one() {
        let completion = Completion::new(&[-1.0, -2.0], &[false, true]).with_entropy(&[1.0, 2.0]);
        assert_eq!(policy_weight(&completion), 1.0);
        assert!((policy_weight(&completion.with_entropy(&[2.0, 2.0])) - 0.5f64.exp()).abs() < 1e-15);
    }
}
