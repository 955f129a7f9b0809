//! CPO (Xu et al. 2024, arXiv 2401.08417): DPO without a reference, and the likelihood of chosen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, require};
use crate::logistic::smoothed;
use crate::loss::simpo::alpha_reward;
use crate::reduction::Reduction;

/// The pair loss, h = logp(y+) − logp(y−).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CpoLossType {
    /// −(1 − ε)·log σ(βh) − ε·log σ(−βh), ε = `label_smoothing`.
    #[default]
    Sigmoid,
    /// max(0, 1 − βh).
    Hinge,
    /// (h − 1/(2β))² with mean log-probs.
    Ipo,
}

/// CPO. The objective is −log σ(β(logp(y+) − logp(y−))) + α·NLL(y+).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CpoConfig {
    /// The pair loss.
    pub loss_type: CpoLossType,
    /// β > 0.
    pub beta: f64,
    /// α ≥ 0, the weight of NLL(y+); 1 in the paper.
    pub cpo_alpha: f64,
    /// ε in [0, 0.5); `sigmoid` alone.
    pub label_smoothing: f64,
    /// α of AlphaPO's reward (1 − e^(−α·logp))/α in the place of logp (arXiv 2501.03884); 0 is CPO.
    pub alpha: f64,
}

impl Default for CpoConfig {
    fn default() -> Self {
        Self { loss_type: CpoLossType::Sigmoid, beta: 0.1, cpo_alpha: 1.0, label_smoothing: 0.0, alpha: 0.0 }
    }
}

impl LossFunction for CpoConfig {
    const KIND: &'static str = "cpo";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[
            Spelling::same("loss_type"),
            Spelling::same("beta"),
            Spelling::same("cpo_alpha"),
            Spelling::same("label_smoothing"),
            Spelling::same("alpha"),
        ],
        distinctive: &["cpo_alpha"],
        suggestive: &[],
        loss_types: &[],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "beta", from: 0.1, to: 0.1, source: "ALMA-R, arXiv 2401.08417" },
        UsualRange { key: "cpo_alpha", from: 1.0, to: 1.0, source: "ALMA-R, arXiv 2401.08417" },
    ];
    // Nothing is published for all weights.
    const LEARNING_RATES: PublishedRates =
        PublishedRates { full: None, lora: Some(PublishedRate { highest: 1e-4, source: "ALMA-R, arXiv 2401.08417" }) };

    fn variants() -> Vec<Self> {
        vec![
            Self::default(),
            Self { label_smoothing: 0.1, ..Self::default() },
            Self { loss_type: CpoLossType::Hinge, ..Self::default() },
            Self { loss_type: CpoLossType::Ipo, ..Self::default() },
            Self { alpha: 0.25, ..Self::default() },
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        require(Self::KIND, "cpo_alpha", "finite and at least 0", self.cpo_alpha, self.cpo_alpha >= 0.0)?;
        let epsilon = self.label_smoothing;
        require(Self::KIND, "label_smoothing", "in [0, 0.5)", epsilon, (0.0..0.5).contains(&epsilon))?;
        require(Self::KIND, "alpha", "finite", self.alpha, true)?;
        if epsilon > 0.0 && self.loss_type != CpoLossType::Sigmoid {
            let because = "unless `loss_type` is \"sigmoid\"";
            return Err(ConfigError::NoEffect { kind: Self::KIND, field: "label_smoothing", because });
        }
        Ok(())
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
        match self.loss_type {
            CpoLossType::Ipo => Direction::Both,
            CpoLossType::Sigmoid if self.label_smoothing > 0.0 => Direction::Both,
            CpoLossType::Sigmoid if self.alpha <= 0.0 => Direction::AlwaysDown,
            CpoLossType::Sigmoid | CpoLossType::Hinge => Direction::DownOrZero,
        }
    }
}

impl PairwiseLoss for CpoConfig {
    fn reduction(&self) -> Reduction {
        match self.loss_type {
            CpoLossType::Ipo => Reduction::Mean,
            CpoLossType::Sigmoid | CpoLossType::Hinge => Reduction::Sum,
        }
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let (chosen, by_chosen) = alpha_reward(chosen.policy, self.alpha);
        let (rejected, by_rejected) = alpha_reward(rejected.policy, self.alpha);
        let (h, beta) = (chosen - rejected, self.beta);
        // Value and derivative by h.
        let (value, d_h) = match self.loss_type {
            CpoLossType::Sigmoid => {
                let (value, d_z) = smoothed(beta * h, self.label_smoothing);
                (value, beta * d_z)
            }
            CpoLossType::Hinge => {
                let short = (1.0 - beta * h).max(0.0);
                (short, if short > 0.0 { -beta } else { 0.0 })
            }
            CpoLossType::Ipo => {
                let off = h - 0.5 / beta;
                (off * off, 2.0 * off)
            }
        };
        PairTerms {
            value,
            d_chosen: d_h * by_chosen,
            d_rejected: -d_h * by_rejected,
            chosen_reward: beta * chosen,
            rejected_reward: beta * rejected,
        }
    }
}
