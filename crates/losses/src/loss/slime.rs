//! SLIME (2026, arXiv 2602.02383): a margin that softens as it is met, the likelihood of chosen, and a soft floor under
//! the tokens of rejected. Constants are those of the authors' code.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::Side;
use crate::catalog::{FlatKeys, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{
    Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, TokenFunction, TokenLoss, require,
};
use crate::logistic::sigmoid;
use crate::reduction::Reduction;

/// SLIME. With Δ = s(y+) − s(y−) the objective is max(0, h − Δ)·σ(−k(Δ − m)) − α·s(y+) + λ·mean over the tokens of y− of
/// softplus(−ℓ − δ)^p.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SlimeConfig {
    /// h > 0, the margin in nats per token past which the pair costs nothing.
    pub hard_margin: f64,
    /// m ≥ 0, the margin in nats per token around which the cost fades.
    pub soft_margin: f64,
    /// k > 0, the steepness of the fading.
    pub steepness: f64,
    /// α ≥ 0, the weight of −s(y+).
    pub chosen_weight: f64,
    /// λ ≥ 0, the weight of the floor.
    pub floor_weight: f64,
    /// δ ≥ 0, the depth in nats at which the floor begins.
    pub floor_threshold: f64,
    /// p ≥ 1.
    pub floor_power: f64,
}

impl Default for SlimeConfig {
    fn default() -> Self {
        Self {
            hard_margin: 1.5,
            soft_margin: 1.0,
            steepness: 2.5,
            chosen_weight: 0.8,
            floor_weight: 5e-4,
            floor_threshold: 0.5,
            floor_power: 2.5,
        }
    }
}

const CODE: &str = "the authors' code";

impl LossFunction for SlimeConfig {
    const KIND: &'static str = "slime";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[
            Spelling::same("hard_margin"),
            Spelling::same("soft_margin"),
            Spelling::same("steepness"),
            Spelling::same("chosen_weight"),
            Spelling::same("floor_weight"),
            Spelling::same("floor_threshold"),
            Spelling::same("floor_power"),
        ],
        distinctive: &["hard_margin", "soft_margin"],
        suggestive: &[],
        loss_types: &["slime"],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "hard_margin", from: 1.5, to: 1.5, source: CODE },
        UsualRange { key: "soft_margin", from: 1.0, to: 1.0, source: CODE },
        UsualRange { key: "chosen_weight", from: 0.8, to: 0.8, source: CODE },
        UsualRange { key: "floor_weight", from: 5e-4, to: 5e-4, source: CODE },
    ];
    const LEARNING_RATES: PublishedRates = PublishedRates { full: None, lora: None };

    fn variants() -> Vec<Self> {
        vec![Self::default(), Self { floor_weight: 0.5, chosen_weight: 0.0, ..Self::default() }]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        for (field, given) in [("hard_margin", self.hard_margin), ("steepness", self.steepness)] {
            require(Self::KIND, field, "finite and greater than 0", given, given > 0.0)?;
        }
        for (field, given) in [
            ("soft_margin", self.soft_margin),
            ("chosen_weight", self.chosen_weight),
            ("floor_weight", self.floor_weight),
            ("floor_threshold", self.floor_threshold),
        ] {
            require(Self::KIND, field, "finite and at least 0", given, given >= 0.0)?;
        }
        require(Self::KIND, "floor_power", "finite and at least 1", self.floor_power, self.floor_power >= 1.0)
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

    fn token_loss(&self) -> Option<TokenLoss> {
        let function = TokenFunction::SoftFloor { threshold: self.floor_threshold, power: self.floor_power };
        Some(TokenLoss { side: Side::Rejected, weight: self.floor_weight, function })
    }

    fn direction(&self) -> Direction {
        Direction::Both
    }
}

impl PairwiseLoss for SlimeConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let delta = chosen.policy - rejected.policy;
        let short = (self.hard_margin - delta).max(0.0);
        let z = self.steepness * (delta - self.soft_margin);
        let (fade, rest) = (sigmoid(-z), sigmoid(z));
        let d_delta = if short > 0.0 { -fade - self.steepness * short * fade * rest } else { 0.0 };
        PairTerms {
            value: short * fade - self.chosen_weight * chosen.policy,
            d_chosen: d_delta - self.chosen_weight,
            d_rejected: -d_delta,
            chosen_reward: chosen.policy,
            rejected_reward: rejected.policy,
        }
    }
}
