//! CPO (Xu et al. 2024, arXiv 2401.08417): DPO without a reference, and the likelihood of chosen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, require};
use crate::logistic::{log_sigmoid, sigmoid};
use crate::reduction::Reduction;

/// CPO. The objective is −log σ(β(logp(y+) − logp(y−))) + α·NLL(y+).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CpoConfig {
    /// β > 0.
    pub beta: f64,
    /// α ≥ 0, the weight of NLL(y+); 1 in the paper.
    pub cpo_alpha: f64,
}

impl Default for CpoConfig {
    fn default() -> Self {
        Self { beta: 0.1, cpo_alpha: 1.0 }
    }
}

impl LossFunction for CpoConfig {
    const KIND: &'static str = "cpo";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[Spelling::same("beta"), Spelling::same("cpo_alpha")],
        distinctive: &["cpo_alpha"],
        suggestive: &[],
        loss_types: &["sigmoid"],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "beta", from: 0.1, to: 0.1, source: "ALMA-R, arXiv 2401.08417" },
        UsualRange { key: "cpo_alpha", from: 1.0, to: 1.0, source: "ALMA-R, arXiv 2401.08417" },
    ];
    // Nothing is published for all weights.
    const LEARNING_RATES: PublishedRates =
        PublishedRates { full: None, lora: Some(PublishedRate { highest: 1e-4, source: "ALMA-R, arXiv 2401.08417" }) };

    fn variants() -> Vec<Self> {
        vec![Self::default()]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        require(Self::KIND, "cpo_alpha", "finite and at least 0", self.cpo_alpha, self.cpo_alpha >= 0.0)
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pairwise(self)
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: self.cpo_alpha, rejected: 0.0 }
    }

    fn direction(&self) -> Direction {
        Direction::AlwaysDown
    }
}

impl PairwiseLoss for CpoConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Sum
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let z = self.beta * (chosen.policy - rejected.policy);
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
