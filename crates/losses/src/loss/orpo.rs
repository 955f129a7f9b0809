//! ORPO (Hong, Lee, Thorne 2024, arXiv 2403.07691): the likelihood of chosen, and an odds ratio.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, require};
use crate::logistic::{NEAREST_TO_ONE, log_sigmoid, log1mexp, sigmoid};
use crate::reduction::Reduction;

/// ORPO. The objective is NLL(y+) − λ·log σ(log odds(y+) − log odds(y−)), odds from e^s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OrpoConfig {
    /// λ > 0. TRL calls it `beta`.
    #[serde(alias = "beta")]
    pub lambda: f64,
}

impl Default for OrpoConfig {
    fn default() -> Self {
        Self { lambda: 0.1 }
    }
}

impl LossFunction for OrpoConfig {
    const KIND: &'static str = "orpo";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[Spelling::renamed("beta", "lambda")],
        distinctive: &[],
        suggestive: &[],
        loss_types: &[],
    };
    const USUAL: &'static [UsualRange] =
        &[UsualRange { key: "lambda", from: 0.1, to: 0.25, source: "arXiv 2403.07691: 0.1 for Mistral 7B" }];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 8e-6, source: "arXiv 2403.07691" }),
        lora: Some(PublishedRate { highest: 8e-6, source: "that of all weights; none is published" }),
    };

    fn variants() -> Vec<Self> {
        vec![Self::default()]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "lambda", "finite and greater than 0", self.lambda, self.lambda > 0.0)
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pairwise(self)
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: 1.0, rejected: 0.0 }
    }

    fn direction(&self) -> Direction {
        Direction::AlwaysDown
    }
}

/// log(e^s / (1 − e^s)) and its derivative 1 / (1 − e^s).
///
/// Odds end at s = 0. A certain completion gets there, and an inverted EOS term goes past it. From p = 1 − 2⁻²⁴ on the
/// log-odds therefore continue with derivative 1: still monotone, so the term still pushes, and still finite.
fn log_odds(s: f64) -> (f64, f64) {
    let edge = -NEAREST_TO_ONE;
    if s < edge { (s - log1mexp(s), -1.0 / s.exp_m1()) } else { (s - log1mexp(edge), 1.0) }
}

impl PairwiseLoss for OrpoConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let (chosen_odds, d_odds_chosen) = log_odds(chosen.policy);
        let (rejected_odds, d_odds_rejected) = log_odds(rejected.policy);
        let z = chosen_odds - rejected_odds;
        let grad = -self.lambda * sigmoid(-z);
        PairTerms {
            value: -self.lambda * log_sigmoid(z),
            d_chosen: grad * d_odds_chosen,
            d_rejected: -grad * d_odds_rejected,
            chosen_reward: self.lambda * chosen.policy,
            rejected_reward: self.lambda * rejected.policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_odds_are_those_of_the_probability_and_continue_past_certainty() {
        let p = 0.8_f64;
        let (value, derivative) = log_odds(p.ln());
        assert!((value - (p / (1.0 - p)).ln()).abs() < 1e-12);
        assert!((derivative - 1.0 / (1.0 - p)).abs() < 1e-12);
        let (certain, derivative) = log_odds(0.0);
        assert!(certain > 16.0 && derivative == 1.0);
        assert!((log_odds(0.5).0 - certain - 0.5).abs() < 1e-12);
    }

    /// The line begins at the edge itself.
    #[test]
    fn log_odds_have_the_derivative_1_from_the_edge_on() {
        let edge = -NEAREST_TO_ONE;
        assert_eq!([edge, 0.5 * edge, 0.0, 1.0].map(|s| log_odds(s).1), [1.0; 4]);
        assert!(log_odds(2.0 * edge).1 > 1e6);
    }
}
