//! SimPO (Meng, Xia, Chen 2024, arXiv 2405.14734): mean log-probs and a margin, no reference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, require};
use crate::logistic::{bounded_exp, log_sigmoid, sigmoid};
use crate::reduction::Reduction;

/// The tokens in s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenSelection {
    /// All of a completion.
    #[default]
    All,
    /// Those less likely than the mean probability of their completion (ConfPO, Yoon et al. 2025, arXiv 2506.08712).
    LessConfident,
}

/// SimPO. The pair loss is −log σ(β(s(y+) − s(y−)) − γ); with AlphaPO's `alpha`, (1 − e^(−αs))/α replaces s.
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
    /// α of AlphaPO's reward (Gupta et al. 2025, arXiv 2501.03884); 0 is SimPO.
    pub alpha: f64,
    /// The tokens in s.
    pub token_selection: TokenSelection,
}

impl Default for SimpoConfig {
    fn default() -> Self {
        Self { beta: 2.0, gamma: 1.0, sft_weight: 0.0, alpha: 0.0, token_selection: TokenSelection::All }
    }
}

impl LossFunction for SimpoConfig {
    const KIND: &'static str = "simpo";
    const MARGIN_KEY: &'static str = "gamma";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[
            Spelling::same("beta"),
            Spelling::renamed("simpo_gamma", "gamma"),
            Spelling::converted("gamma_beta_ratio", "gamma", gamma_of_ratio),
            Spelling::renamed("cpo_alpha", "sft_weight"),
            Spelling::same("sft_weight"),
            Spelling::same("alpha"),
        ],
        distinctive: &["simpo_gamma", "gamma_beta_ratio"],
        suggestive: &[],
        // CPO-SimPO is TRL's CPO with the loss type `simpo`.
        loss_types: &["simpo", "sigmoid"],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "beta", from: 2.0, to: 10.0, source: "the authors' repository; 2 to 2.5 in the paper" },
        UsualRange { key: "gamma", from: 0.25, to: 1.6, source: "the released models, γ/β 0.1 to 0.8" },
        UsualRange { key: "alpha", from: -0.5, to: 0.5, source: "arXiv 2501.03884" },
    ];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 1e-6, source: "arXiv 2405.14734, from 3e-7" }),
        lora: Some(PublishedRate { highest: 8e-6, source: "effective_llm_alignment" }),
    };

    fn variants() -> Vec<Self> {
        vec![
            Self::default(),
            Self { sft_weight: 0.7, ..Self::default() },
            Self { alpha: 0.25, ..Self::default() },
            Self { alpha: -0.5, ..Self::default() },
            Self { token_selection: TokenSelection::LessConfident, ..Self::default() },
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        require(Self::KIND, "alpha", "finite", self.alpha, true)?;
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
        // the exponential reward runs away from the logistic function, whose derivative is 0 there
        if self.alpha > 0.0 { Direction::DownOrZero } else { Direction::AlwaysDown }
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

/// AlphaPO's reward (1 − e^(−αs))/α of a log-prob, with its derivative; s itself at α = 0.
pub(crate) fn alpha_reward(s: f64, alpha: f64) -> (f64, f64) {
    if alpha == 0.0 {
        return (s, 1.0);
    }
    let (e, derivative) = bounded_exp(-alpha * s);
    ((1.0 - e) / alpha, derivative)
}

impl PairwiseLoss for SimpoConfig {
    fn reduction(&self) -> Reduction {
        match self.token_selection {
            TokenSelection::All => Reduction::Mean,
            TokenSelection::LessConfident => Reduction::LessConfident,
        }
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let (chosen, by_chosen) = alpha_reward(chosen.policy, self.alpha);
        let (rejected, by_rejected) = alpha_reward(rejected.policy, self.alpha);
        let z = self.beta * (chosen - rejected) - self.gamma;
        let grad = -sigmoid(-z) * self.beta;
        PairTerms {
            value: -log_sigmoid(z),
            d_chosen: grad * by_chosen,
            d_rejected: -grad * by_rejected,
            chosen_reward: self.beta * chosen,
            rejected_reward: self.beta * rejected,
        }
    }
}
