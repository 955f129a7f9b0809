//! Unlikelihood (Welleck et al. 2019, arXiv 1908.04319) of rejected completions, beside the likelihood of chosen ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::Side;
use crate::catalog::{FlatKeys, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{
    Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, TokenFunction, TokenLoss, require,
};
use crate::reduction::Reduction;

/// Unlikelihood. The objective is NLL(y+) + α·mean over the tokens of y− of −log(1 − p).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnlikelihoodConfig {
    /// α > 0, the weight of the rejected side.
    pub rank_alpha: f64,
    /// Weight ≥ 0 of NLL(y+).
    pub sft_weight: f64,
}

impl Default for UnlikelihoodConfig {
    fn default() -> Self {
        Self { rank_alpha: 1.0, sft_weight: 1.0 }
    }
}

impl LossFunction for UnlikelihoodConfig {
    const KIND: &'static str = "unlikelihood";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[Spelling::same("rank_alpha"), Spelling::same("sft_weight")],
        distinctive: &["rank_alpha"],
        suggestive: &[],
        loss_types: &["unlikelihood"],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "rank_alpha", from: 1.0, to: 1.0, source: "arXiv 1908.04319, for repeated tokens" },
        UsualRange { key: "sft_weight", from: 1.0, to: 1.0, source: "arXiv 1908.04319" },
    ];
    // Nothing is published for preference pairs.
    const LEARNING_RATES: PublishedRates = PublishedRates { full: None, lora: None };

    fn variants() -> Vec<Self> {
        vec![Self::default(), Self { sft_weight: 0.0, ..Self::default() }]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "rank_alpha", "finite and greater than 0", self.rank_alpha, self.rank_alpha > 0.0)?;
        require(Self::KIND, "sft_weight", "finite and at least 0", self.sft_weight, self.sft_weight >= 0.0)
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pairwise(self)
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: self.sft_weight, rejected: 0.0 }
    }

    fn token_loss(&self) -> Option<TokenLoss> {
        Some(TokenLoss { side: Side::Rejected, weight: self.rank_alpha, function: TokenFunction::Unlikelihood })
    }

    fn direction(&self) -> Direction {
        Direction::AlwaysDown
    }
}

impl PairwiseLoss for UnlikelihoodConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }

    /// Nothing of the pair's scores: the loss is one of tokens.
    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        PairTerms {
            value: 0.0,
            d_chosen: 0.0,
            d_rejected: 0.0,
            chosen_reward: chosen.policy,
            rejected_reward: rejected.policy,
        }
    }
}
