//! LMPO (Li et al. 2025, arXiv 2502.14643): SimPO with a margin for each pair, larger where the pair is not yet learned
//! than where the others are. Constants are those of the authors' code.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, require};
use crate::logistic::{log_sigmoid, sigmoid};
use crate::reduction::Reduction;
use crate::state::LossState;

/// LMPO. The pair loss is −log σ(β(s(y+) − s(y−)) − γ − λ·z). z standardizes, by running means over steps,
/// (1 − p⁺)(1 − (p⁺ − p⁻)⁵)/2 with p = e^(s·T̄), T̄ the mean length of the pair over the side's own; it has no gradient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LmpoConfig {
    /// β > 0.
    pub beta: f64,
    /// γ ≥ 0, in units of reward (β times nats per token).
    pub gamma: f64,
    /// λ ≥ 0, the weight of a pair's own margin; 0 is SimPO.
    pub margin_weight: f64,
}

impl Default for LmpoConfig {
    fn default() -> Self {
        Self { beta: 2.5, gamma: 1.375, margin_weight: 0.2 }
    }
}

const CODE: &str = "the authors' configurations";

/// Exponent of the margin.
const POWER: i32 = 5;
/// Share that a running mean keeps at each step.
const DECAY: f64 = 0.9;

impl LossFunction for LmpoConfig {
    const KIND: &'static str = "lmpo";
    const MARGIN_KEY: &'static str = "gamma";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[Spelling::same("beta"), Spelling::same("gamma"), Spelling::same("margin_weight")],
        distinctive: &["margin_weight"],
        suggestive: &[],
        loss_types: &["lmpo"],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "beta", from: 2.0, to: 2.5, source: CODE },
        UsualRange { key: "gamma", from: 0.25, to: 1.6, source: CODE },
        UsualRange { key: "margin_weight", from: 0.2, to: 0.2, source: "the authors' code" },
    ];
    const LEARNING_RATES: PublishedRates =
        PublishedRates { full: Some(PublishedRate { highest: 1e-6, source: CODE }), lora: None };

    fn variants() -> Vec<Self> {
        vec![Self::default(), Self { gamma: 0.25, margin_weight: 1.0, ..Self::default() }]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        for (field, given) in [("gamma", self.gamma), ("margin_weight", self.margin_weight)] {
            require(Self::KIND, field, "finite and at least 0", given, given >= 0.0)?;
        }
        Ok(())
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pairwise(self)
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights::default()
    }

    fn direction(&self) -> Direction {
        Direction::AlwaysDown
    }

    fn target_margin(&self) -> Option<f64> {
        Some(self.gamma)
    }

    fn with_target_margin(&self, margin: f64) -> Option<Self> {
        Some(Self { gamma: margin, ..self.clone() })
    }
}

/// Share of a pair that is still to be learned, from 0 to 1, before it is standardized.
fn unlearned(chosen: Score, rejected: Score) -> f64 {
    let length = (chosen.tokens + rejected.tokens) as f64 / 2.0;
    // an inverted terminator can lift a mean above 0
    let p = |score: Score| (score.policy.min(0.0) * length / score.tokens as f64).exp();
    let (chosen, rejected) = (p(chosen), p(rejected));
    (1.0 - chosen) * (1.0 - (chosen - rejected).powi(POWER)) / 2.0
}

impl LmpoConfig {
    fn terms(&self, chosen: Score, rejected: Score, margin: f64) -> PairTerms {
        let z = self.beta * (chosen.policy - rejected.policy) - self.gamma - margin;
        let grad = -sigmoid(-z) * self.beta;
        PairTerms {
            value: -log_sigmoid(z),
            d_chosen: grad,
            d_rejected: -grad,
            chosen_reward: self.beta * chosen.policy,
            rejected_reward: self.beta * rejected.policy,
        }
    }
}

impl PairwiseLoss for LmpoConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }

    /// A step of one pair, which is its own mean.
    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        self.terms(chosen, rejected, 0.0)
    }

    fn compares_pairs(&self) -> bool {
        true
    }

    fn step(&self, pairs: &[(Score, Score)], state: &mut LossState) -> Vec<PairTerms> {
        let unlearned: Vec<f64> = pairs.iter().map(|(chosen, rejected)| unlearned(*chosen, *rejected)).collect();
        state.margins.update(&unlearned, DECAY);
        let margin = |unlearned: &f64| self.margin_weight * state.margins.standardized(*unlearned);
        let of_pair = |((chosen, rejected), unlearned): (&(Score, Score), &f64)| {
            self.terms(*chosen, *rejected, margin(unlearned))
        };
        pairs.iter().zip(&unlearned).map(of_pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_has_the_value_of_its_formula() {
        let score = |policy: f64, tokens| Score { policy, reference: 0.0, tokens };
        let (half, quarter) = (0.5f64.ln(), 0.25f64.ln());
        // p of a mean, the pair's mean length being that of either side
        let near = |chosen, rejected, expected: f64| {
            let got = unlearned(chosen, rejected);
            assert!((got - expected).abs() < 1e-15, "{got}, expected {expected}");
        };
        near(score(half, 1), score(quarter, 1), 0.5 * (1.0 - 1.0 / 1024.0) / 2.0);
        near(score(quarter, 1), score(half, 1), 0.75 * (1.0 + 1.0 / 1024.0) / 2.0);
        near(score(0.0, 1), score(quarter, 1), 0.0);
        // of 1 and 3 tokens: ½^(2/1) and ¼^(2/3)
        let rejected = 0.25f64.powf(2.0 / 3.0);
        near(score(half, 1), score(quarter, 3), 0.75 * (1.0 - (0.25 - rejected).powi(5)) / 2.0);
    }
}
