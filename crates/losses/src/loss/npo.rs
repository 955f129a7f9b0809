//! NPO (Zhang et al. 2024, arXiv 2404.05868): the rejected half of DPO, beside the likelihood of chosen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, require};
use crate::logistic::{log_sigmoid, sigmoid};
use crate::reduction::Reduction;

/// NPO. The objective is −(2/β)·log σ(−β(logp(y−) − ref(y−))) + α·NLL(y+).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NpoConfig {
    /// β > 0.
    pub beta: f64,
    /// α ≥ 0, the weight of NLL(y+), the retained data of the paper.
    pub sft_weight: f64,
}

impl Default for NpoConfig {
    fn default() -> Self {
        Self { beta: 0.1, sft_weight: 1.0 }
    }
}

impl LossFunction for NpoConfig {
    const KIND: &'static str = "npo";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[Spelling::same("beta"), Spelling::same("sft_weight")],
        distinctive: &[],
        suggestive: &[],
        loss_types: &["npo"],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "beta", from: 0.1, to: 0.1, source: "arXiv 2404.05868" },
        UsualRange { key: "sft_weight", from: 1.0, to: 1.0, source: "arXiv 2404.05868" },
    ];
    const LEARNING_RATES: PublishedRates =
        PublishedRates { full: Some(PublishedRate { highest: 1e-5, source: "arXiv 2404.05868" }), lora: None };

    fn variants() -> Vec<Self> {
        vec![Self::default(), Self { sft_weight: 0.0, ..Self::default() }]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        require(Self::KIND, "sft_weight", "finite and at least 0", self.sft_weight, self.sft_weight >= 0.0)
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pairwise(self)
    }

    fn needs_reference(&self) -> bool {
        true
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: self.sft_weight, rejected: 0.0 }
    }

    fn direction(&self) -> Direction {
        Direction::AlwaysDown
    }
}

impl PairwiseLoss for NpoConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Sum
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let z = self.beta * rejected.ratio();
        PairTerms {
            value: -2.0 / self.beta * log_sigmoid(-z),
            d_chosen: 0.0,
            d_rejected: 2.0 * sigmoid(z),
            chosen_reward: self.beta * chosen.ratio(),
            rejected_reward: z,
        }
    }
}
