//! SimPO (Meng, Xia, Chen 2024, arXiv 2405.14734): mean log-probs and a margin, no reference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PairLoss, PairTerms, Score, SftWeights, require};
use crate::error::ConfigError;
use crate::logistic::{log_sigmoid, sigmoid};
use crate::reduction::Reduction;

/// SimPO's own keys. The pair loss is −log σ(β(s(y+) − s(y−)) − γ).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimpoConfig {
    /// β > 0.
    pub beta: f64,
    /// γ ≥ 0, in units of reward (β times nats per token). TRL calls it `simpo_gamma`.
    #[serde(alias = "simpo_gamma")]
    pub gamma: f64,
    /// Weight ≥ 0 of NLL(y+) beside the pair loss (CPO-SimPO); TRL calls it `cpo_alpha`. The paper has none.
    #[serde(alias = "cpo_alpha")]
    pub sft_weight: f64,
}

impl Default for SimpoConfig {
    fn default() -> Self {
        Self { beta: 2.0, gamma: 1.0, sft_weight: 0.0 }
    }
}

impl SimpoConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        require("simpo", "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        require("simpo", "gamma", "finite and at least 0", self.gamma, self.gamma >= 0.0)?;
        require("simpo", "sft_weight", "finite and at least 0", self.sft_weight, self.sft_weight >= 0.0)
    }

    pub(crate) fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: self.sft_weight, rejected: 0.0 }
    }
}

impl PairLoss for SimpoConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let z = self.beta * (chosen.policy - rejected.policy) - self.gamma;
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
