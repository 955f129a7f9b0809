//! SFT: the negative log-likelihood of completions, a token mean over the optimizer step, and losses of a token that weigh
//! likely and unlikely tokens otherwise.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::entropy::TokenEntropy;
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, Pairing, SftWeights, require};
use crate::likelihood::Likelihood;

/// The loss of a token, ℓ its log-prob and p = e^ℓ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SftLossType {
    /// −ℓ.
    #[default]
    Nll,
    /// −p·ℓ, p without a gradient (DFT, Wu et al. 2025, arXiv 2508.05629).
    Dft,
    /// −p (Li et al. 2025, arXiv 2510.00526).
    NegP,
    /// −(H/3)^α·ℓ, H the entropy of the 20 likeliest tokens among themselves, without a gradient, and α = `eaft_alpha`
    /// (EAFT, Diao et al. 2026, arXiv 2601.02151, as LLaMA-Factory computes it).
    Eaft,
}

/// SFT. It trains on the chosen side and leaves a rejected one alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// The loss of a token; the objective is its mean over the tokens of the step.
    pub loss_type: SftLossType,
    /// α ≥ 0 of `eaft`; 0 is `nll`.
    pub eaft_alpha: f64,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self { loss_type: SftLossType::Nll, eaft_alpha: 1.0 }
    }
}

impl LossFunction for SftConfig {
    const KIND: &'static str = "sft";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[Spelling::same("loss_type"), Spelling::same("eaft_alpha")],
        distinctive: &["eaft_alpha"],
        suggestive: &[],
        loss_types: &[],
    };
    const USUAL: &'static [UsualRange] =
        &[UsualRange { key: "eaft_alpha", from: 1.0, to: 1.0, source: "arXiv 2601.02151, LLaMA-Factory" }];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 2e-5, source: "Alpaca, Vicuna" }),
        lora: Some(PublishedRate { highest: 2e-4, source: "QLoRA, arXiv 2305.14314, its smaller models" }),
    };

    fn variants() -> Vec<Self> {
        let of = |loss_type| Self { loss_type, ..Self::default() };
        vec![
            Self::default(),
            of(SftLossType::Dft),
            of(SftLossType::NegP),
            of(SftLossType::Eaft),
            Self { eaft_alpha: 0.5, ..of(SftLossType::Eaft) },
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "eaft_alpha", "finite and at least 0", self.eaft_alpha, self.eaft_alpha >= 0.0)
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::SftOnly
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: 1.0, rejected: 0.0 }
    }

    fn needs_entropy(&self) -> Option<TokenEntropy> {
        (self.loss_type == SftLossType::Eaft).then_some(TokenEntropy::Top)
    }

    fn likelihood(&self) -> Likelihood {
        match self.loss_type {
            SftLossType::Nll => Likelihood::Nll,
            SftLossType::Dft => Likelihood::Scaled,
            SftLossType::NegP => Likelihood::Probability,
            SftLossType::Eaft => Likelihood::EntropyScaled { alpha: self.eaft_alpha },
        }
    }

    fn direction(&self) -> Direction {
        Direction::DownOrZero
    }
}
