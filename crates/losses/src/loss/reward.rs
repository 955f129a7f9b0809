//! The loss of reward models: Bradley and Terry's likelihood that the chosen completion wins (Bradley and Terry 1952; Ouyang
//! et al. 2022, arXiv 2203.02155), with a margin by pair (Touvron et al. 2023, arXiv 2307.09288) and rewards centred at 0
//! (Eisenstein et al. 2023, arXiv 2312.09244), as in TRL's `RewardTrainer`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, Pairing, SftWeights, require};
use crate::logistic::{log_sigmoid, sigmoid};
use crate::pooled::{PooledLoss, PooledRow, PooledTerms};

/// A reward model: −log σ(r(y+) − r(y−) − m) + c·(r(y+) + r(y−))², m the pair's `margin`. It trains a head of one value in
/// place of the one that predicts tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// c ≥ 0: pulls the mean reward of a pair to 0; 0 is off.
    pub center_rewards_coefficient: f64,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self { center_rewards_coefficient: 0.0 }
    }
}

impl LossFunction for RewardConfig {
    const KIND: &'static str = "reward";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[Spelling::same("center_rewards_coefficient")],
        distinctive: &["center_rewards_coefficient"],
        suggestive: &[],
        loss_types: &[],
    };
    const USUAL: &'static [UsualRange] = &[UsualRange {
        key: "center_rewards_coefficient",
        from: 0.0,
        to: 0.01,
        source: "TRL, effective_llm_alignment",
    }];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 3e-5, source: "effective_llm_alignment's configurations" }),
        lora: Some(PublishedRate { highest: 4e-4, source: "effective_llm_alignment's configurations" }),
    };

    fn variants() -> Vec<Self> {
        vec![Self::default(), Self { center_rewards_coefficient: 0.01 }]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let c = self.center_rewards_coefficient;
        require(Self::KIND, "center_rewards_coefficient", "finite and at least 0", c, c >= 0.0)
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pooled(self)
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights::default()
    }

    fn direction(&self) -> Direction {
        match self.center_rewards_coefficient > 0.0 {
            true => Direction::Both,
            false => Direction::AlwaysDown,
        }
    }
}

impl PooledLoss for RewardConfig {
    fn values(&self) -> usize {
        1
    }

    fn compares_sides(&self) -> bool {
        true
    }

    fn row(&self, row: &PooledRow<'_>) -> PooledTerms {
        let (chosen, rejected) = (first(row.chosen), row.rejected.map_or(0.0, first));
        let c = self.center_rewards_coefficient;
        let (sum, lead) = (chosen + rejected, chosen - rejected - row.margin);
        let wrong = sigmoid(-lead);
        PooledTerms {
            value: c * sum * sum - log_sigmoid(lead),
            d_chosen: vec![2.0 * c * sum - wrong],
            d_rejected: vec![2.0 * c * sum + wrong],
            rewards: Some((chosen, rejected)),
            found: None,
        }
    }
}

fn first(values: &[f64]) -> f64 {
    values.first().copied().unwrap_or_default()
}
