//! DPO (Rafailov et al. 2023, arXiv 2305.18290) and its variants, as functions of the difference of log-ratios
//! h = (logp(y+) − ref(y+)) − (logp(y−) − ref(y−)).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, require};
use crate::logistic::{log_sigmoid, sigmoid};
use crate::reduction::Reduction;

/// The pair loss as a function of h.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DpoLossType {
    /// −(1 − ε)·log σ(βh) − ε·log σ(−βh), ε = `label_smoothing` (Mitchell 2023, conservative DPO).
    #[default]
    Sigmoid,
    /// max(0, 1 − βh) (SLiC, Zhao et al. 2023, arXiv 2305.10425).
    Hinge,
    /// (h − 1/(2β))² (Azar et al. 2023, arXiv 2310.12036).
    Ipo,
}

/// DPO and its variants. At most one of `average_log_prob`, `ld_alpha` and `sampo_seed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DpoConfig {
    /// The pair loss.
    pub loss_type: DpoLossType,
    /// β > 0.
    pub beta: f64,
    /// ε in [0, 0.5); `sigmoid` alone.
    pub label_smoothing: f64,
    /// Leaves the reference out: every ref is 0.
    pub reference_free: bool,
    /// α ≥ 0 of the SFT term α·NLL(y+) (RPO, Pang et al. 2024, arXiv 2404.19733); absent is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpo_alpha: Option<f64>,
    /// λ ≥ 0 of the positive term, h − λ·max(0, ref(y+) − logp(y+)) in the place of h (DPOP, Pal et al. 2024,
    /// arXiv 2402.13228); absent is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpop_lambda: Option<f64>,
    /// Means in the place of sums, as TRL does for `ipo`.
    pub average_log_prob: bool,
    /// α in [0, 1] of LD-DPO's length control; absent is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ld_alpha: Option<f64>,
    /// Seed of SamPO's length control; absent is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampo_seed: Option<u64>,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self {
            loss_type: DpoLossType::Sigmoid,
            beta: 0.1,
            label_smoothing: 0.0,
            reference_free: false,
            rpo_alpha: None,
            dpop_lambda: None,
            average_log_prob: false,
            ld_alpha: None,
            sampo_seed: None,
        }
    }
}

const BETAS: &str = "0.1 in arXiv 2305.18290, 0.01 in the alignment-handbook, 0.1 to 0.5 in torchtune";

impl LossFunction for DpoConfig {
    const KIND: &'static str = "dpo";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[
            Spelling::same("beta"),
            Spelling::same("loss_type"),
            Spelling::same("label_smoothing"),
            Spelling::same("reference_free"),
            Spelling::same("rpo_alpha"),
            Spelling::same("ld_alpha"),
        ],
        distinctive: &[],
        // TRL's other trainers began as copies of its DPO trainer.
        suggestive: &["rpo_alpha", "reference_free"],
        loss_types: &[],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "beta", from: 0.01, to: 0.5, source: BETAS },
        UsualRange { key: "rpo_alpha", from: 1.0, to: 1.0, source: "arXiv 2404.19733" },
    ];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate {
            highest: 1e-6,
            source: "arXiv 2305.18290; 5e-7 in Zephyr, arXiv 2310.16944, and Tulu 3, arXiv 2411.15124",
        }),
        lora: Some(PublishedRate { highest: 5e-6, source: "the alignment-handbook, effective_llm_alignment" }),
    };

    fn variants() -> Vec<Self> {
        let default = Self::default;
        vec![
            default(),
            Self { label_smoothing: 0.1, ..default() },
            Self { loss_type: DpoLossType::Hinge, beta: 0.4, ..default() },
            Self { loss_type: DpoLossType::Ipo, ..default() },
            Self { rpo_alpha: Some(0.5), ..default() },
            Self { dpop_lambda: Some(5.0), ..default() },
            Self { average_log_prob: true, beta: 1.0, ..default() },
            Self { ld_alpha: Some(0.3), ..default() },
            Self { sampo_seed: Some(1), ..default() },
            Self { reference_free: true, ..default() },
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        let epsilon = self.label_smoothing;
        require(Self::KIND, "label_smoothing", "in [0, 0.5)", epsilon, (0.0..0.5).contains(&epsilon))?;
        for (field, weight) in [("rpo_alpha", self.rpo_alpha), ("dpop_lambda", self.dpop_lambda)] {
            if let Some(weight) = weight {
                require(Self::KIND, field, "finite and at least 0", weight, weight >= 0.0)?;
            }
        }
        if let Some(alpha) = self.ld_alpha {
            require(Self::KIND, "ld_alpha", "in [0, 1]", alpha, (0.0..=1.0).contains(&alpha))?;
        }
        let no_effect = |field, because| Err(ConfigError::NoEffect { kind: Self::KIND, field, because });
        if epsilon > 0.0 && self.loss_type != DpoLossType::Sigmoid {
            return no_effect("label_smoothing", "unless `loss_type` is \"sigmoid\"");
        }
        if self.dpop_lambda.is_some() && self.reference_free {
            return no_effect("dpop_lambda", "beside `reference_free`: logp never exceeds a reference of 0");
        }
        if self.sampo_seed.is_some() && self.ld_alpha.is_some() {
            return no_effect("sampo_seed", "beside `ld_alpha`: a loss has one length control");
        }
        if self.average_log_prob && (self.sampo_seed.is_some() || self.ld_alpha.is_some()) {
            return no_effect("average_log_prob", "beside `ld_alpha` or `sampo_seed`: a loss has one length control");
        }
        Ok(())
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pairwise(self)
    }

    fn needs_reference(&self) -> bool {
        !self.reference_free
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: self.rpo_alpha.unwrap_or(0.0), rejected: 0.0 }
    }

    fn direction(&self) -> Direction {
        match self.loss_type {
            DpoLossType::Sigmoid if self.label_smoothing > 0.0 => Direction::Both,
            DpoLossType::Sigmoid => Direction::AlwaysDown,
            DpoLossType::Hinge => Direction::DownOrZero,
            DpoLossType::Ipo => Direction::Both,
        }
    }
}

impl PairwiseLoss for DpoConfig {
    fn reduction(&self) -> Reduction {
        match (self.ld_alpha, self.sampo_seed) {
            (Some(alpha), _) => Reduction::LengthDesensitized { alpha },
            (None, Some(seed)) => Reduction::DownSampled { seed },
            (None, None) if self.average_log_prob => Reduction::Mean,
            (None, None) => Reduction::Sum,
        }
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let beta = self.beta;
        let fallen = (-chosen.ratio()).max(0.0);
        let positive = self.dpop_lambda.unwrap_or(0.0);
        let h = chosen.ratio() - rejected.ratio() - positive * fallen;
        let d_h_chosen = if fallen > 0.0 { 1.0 + positive } else { 1.0 };
        // Value and derivative by h.
        let (value, d_h) = match self.loss_type {
            DpoLossType::Sigmoid => {
                let (z, epsilon) = (beta * h, self.label_smoothing);
                let value = -(1.0 - epsilon) * log_sigmoid(z) - epsilon * log_sigmoid(-z);
                (value, beta * (epsilon * sigmoid(z) - (1.0 - epsilon) * sigmoid(-z)))
            }
            DpoLossType::Hinge => {
                let short = (1.0 - beta * h).max(0.0);
                (short, if short > 0.0 { -beta } else { 0.0 })
            }
            DpoLossType::Ipo => {
                let off = h - 0.5 / beta;
                (off * off, 2.0 * off)
            }
        };
        PairTerms {
            value,
            d_chosen: d_h * d_h_chosen,
            d_rejected: -d_h,
            chosen_reward: beta * chosen.ratio(),
            rejected_reward: beta * rejected.ratio(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(policy: f64, reference: f64) -> Score {
        Score { policy, reference }
    }

    #[test]
    fn each_loss_type_has_the_value_of_its_formula() {
        // h = (−3 + 4) − (−6 + 5) = 2, β = 0.5: βh = 1, 1/(2β) = 1.
        let (chosen, rejected) = (score(-3.0, -4.0), score(-6.0, -5.0));
        let expected =
            [(DpoLossType::Sigmoid, 0.313_261_687_518_223), (DpoLossType::Hinge, 0.0), (DpoLossType::Ipo, 1.0)];
        for (loss_type, value) in expected {
            let config = DpoConfig { loss_type, beta: 0.5, ..DpoConfig::default() };
            assert!((config.pair(chosen, rejected).value - value).abs() < 1e-12, "{loss_type:?}");
        }
    }

    #[test]
    fn the_positive_term_acts_once_chosen_has_fallen_below_the_reference() {
        let config = DpoConfig { beta: 1.0, dpop_lambda: Some(5.0), ..DpoConfig::default() };
        let plain = DpoConfig { dpop_lambda: None, ..config.clone() };
        let above = (score(-3.0, -4.0), score(-6.0, -5.0));
        assert_eq!(config.pair(above.0, above.1), plain.pair(above.0, above.1));
        // Fallen by 0.1: h = −0.1 + 1 − 5·0.1 = 0.4.
        let value = config.pair(score(-4.1, -4.0), score(-6.0, -5.0)).value;
        assert!((value + log_sigmoid(0.4)).abs() < 1e-12);
    }
}
