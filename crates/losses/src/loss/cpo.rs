//! CPO (Xu et al. 2024, arXiv 2401.08417): DPO without a reference, and the likelihood of chosen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PairLoss, PairTerms, Score, SftWeights, require};
use crate::error::ConfigError;
use crate::logistic::{log_sigmoid, sigmoid};
use crate::reduction::Reduction;

/// CPO's own keys. The objective is −log σ(β(logp(y+) − logp(y−))) + α·NLL(y+).
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

impl CpoConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        require("cpo", "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        require("cpo", "cpo_alpha", "finite and at least 0", self.cpo_alpha, self.cpo_alpha >= 0.0)
    }

    pub(crate) fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: self.cpo_alpha, rejected: 0.0 }
    }
}

impl PairLoss for CpoConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Sum
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let z = self.beta * (chosen.policy - rejected.policy);
        let slope = -sigmoid(-z) * self.beta;
        PairTerms {
            value: -log_sigmoid(z),
            by_chosen: slope,
            by_rejected: -slope,
            chosen_reward: self.beta * chosen.policy,
            rejected_reward: self.beta * rejected.policy,
        }
    }
}
