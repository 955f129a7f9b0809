//! RePO (Wu et al. 2025, arXiv 2503.07426): a hinge on the difference of mean log-probs, no reference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, require};
use crate::reduction::Reduction;

/// RePO. The objective is max(0, γ − (s(y+) − s(y−))).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RepoConfig {
    /// γ ≥ 0, in nats per token.
    pub gamma: f64,
}

impl Default for RepoConfig {
    fn default() -> Self {
        Self { gamma: 0.5 }
    }
}

impl LossFunction for RepoConfig {
    const KIND: &'static str = "repo";
    const MARGIN_KEY: &'static str = "gamma";
    const FLAT_KEYS: FlatKeys =
        FlatKeys { spellings: &[Spelling::same("gamma")], distinctive: &[], suggestive: &[], loss_types: &["repo"] };
    const USUAL: &'static [UsualRange] = &[UsualRange { key: "gamma", from: 0.4, to: 0.6, source: "arXiv 2503.07426" }];
    const LEARNING_RATES: PublishedRates =
        PublishedRates { full: Some(PublishedRate { highest: 1e-6, source: "arXiv 2503.07426" }), lora: None };

    fn variants() -> Vec<Self> {
        vec![Self::default()]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "gamma", "finite and at least 0", self.gamma, self.gamma >= 0.0)
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
        Direction::DownOrZero
    }

    fn target_margin(&self) -> Option<f64> {
        Some(self.gamma)
    }

    fn with_target_margin(&self, margin: f64) -> Option<Self> {
        Some(Self { gamma: margin })
    }
}

impl PairwiseLoss for RepoConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let short = (self.gamma - (chosen.policy - rejected.policy)).max(0.0);
        let grad = if short > 0.0 { 1.0 } else { 0.0 };
        PairTerms {
            value: short,
            d_chosen: -grad,
            d_rejected: grad,
            chosen_reward: chosen.policy,
            rejected_reward: rejected.policy,
        }
    }
}
