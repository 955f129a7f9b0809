//! SimPO (Meng, Xia, Chen 2024, arXiv 2405.14734): mean log-probs and a margin, no reference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, require};
use crate::logistic::{log_sigmoid, sigmoid};
use crate::reduction::Reduction;

/// SimPO. The pair loss is −log σ(β(s(y+) − s(y−)) − γ).
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

impl LossFunction for SimpoConfig {
    const KIND: &'static str = "simpo";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[
            Spelling::same("beta"),
            Spelling::renamed("simpo_gamma", "gamma"),
            Spelling::converted("gamma_beta_ratio", "gamma", gamma_of_ratio),
            Spelling::renamed("cpo_alpha", "sft_weight"),
            Spelling::same("sft_weight"),
        ],
        distinctive: &["simpo_gamma", "gamma_beta_ratio"],
        suggestive: &[],
        // CPO-SimPO is TRL's CPO with the loss type `simpo`.
        loss_types: &["simpo", "sigmoid"],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "beta", from: 2.0, to: 10.0, source: "the authors' repository; 2 to 2.5 in the paper" },
        UsualRange { key: "gamma", from: 0.25, to: 1.6, source: "the released models, γ/β 0.1 to 0.8" },
    ];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 1e-6, source: "arXiv 2405.14734, from 3e-7" }),
        lora: Some(PublishedRate { highest: 8e-6, source: "effective_llm_alignment" }),
    };

    fn variants() -> Vec<Self> {
        vec![Self::default(), Self { sft_weight: 0.7, ..Self::default() }]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        require(Self::KIND, "gamma", "finite and at least 0", self.gamma, self.gamma >= 0.0)?;
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

/// γ of the published ratio γ/β.
fn gamma_of_ratio(ratio: &Value, keys: &Map<String, Value>) -> Option<Value> {
    let beta = keys.get("beta").and_then(Value::as_f64).unwrap_or(SimpoConfig::default().beta);
    Some(Value::from(ratio.as_f64()? * beta))
}

impl PairwiseLoss for SimpoConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let z = self.beta * (chosen.policy - rejected.policy) - self.gamma;
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
