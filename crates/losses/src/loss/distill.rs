//! Distillation: a student learns the distributions of a teacher of the same tokenizer at every token of the data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::divergence::{Distance, Divergence};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, Pairing, SftWeights, require};

/// Distillation. The loss of a token is α·D(p, q) − (1 − α)·ℓ, p the student's distribution and q the teacher's, both softmaxes
/// of logits over τ; ℓ is at τ = 1. The objective is its mean over the tokens of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DistillConfig {
    /// D.
    pub loss_type: Divergence,
    /// α in [0, 1]; 1 learns from the teacher alone, less also from the tokens of the data.
    pub alpha: f64,
    /// τ > 0. The two KL divergences are multiplied by τ², so that their gradients keep their size; the others are not.
    pub temperature: f64,
    /// β in (0, 1), of `loss_type` = "jensen_shannon": the teacher's share of the mixture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub js_beta: Option<f64>,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self { loss_type: Divergence::ForwardKl, alpha: 0.5, temperature: 1.0, js_beta: None }
    }
}

impl DistillConfig {
    /// D with its numbers.
    pub fn distance(&self) -> Distance {
        let mixture = self.js_beta.unwrap_or(0.5);
        Distance { divergence: self.loss_type, temperature: self.temperature, mixture }
    }
}

impl LossFunction for DistillConfig {
    const KIND: &'static str = "distill";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[Spelling::same("loss_type"), Spelling::same("temperature"), Spelling::same("js_beta")],
        distinctive: &["js_beta"],
        suggestive: &[],
        loss_types: &[],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "alpha", from: 0.5, to: 1.0, source: "arXiv 1503.02531, effective_llm_alignment" },
        UsualRange { key: "temperature", from: 1.0, to: 2.0, source: "arXiv 2306.13649, effective_llm_alignment" },
        UsualRange { key: "js_beta", from: 0.1, to: 0.9, source: "arXiv 2306.13649" },
    ];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate {
            highest: 5e-5,
            source: "that of SFT in transformers; none is published of models this large",
        }),
        lora: Some(PublishedRate { highest: 8e-5, source: "effective_llm_alignment" }),
    };

    fn variants() -> Vec<Self> {
        vec![
            Self::default(),
            Self { loss_type: Divergence::JensenShannon, js_beta: Some(0.1), alpha: 0.25, ..Self::default() },
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let kind = Self::KIND;
        require(kind, "alpha", "in [0, 1]", self.alpha, (0.0..=1.0).contains(&self.alpha))?;
        require(kind, "temperature", "finite and greater than 0", self.temperature, self.temperature > 0.0)?;
        let Some(beta) = self.js_beta else { return Ok(()) };
        if self.loss_type != Divergence::JensenShannon {
            let because = "unless `loss_type` is \"jensen_shannon\"";
            return Err(ConfigError::NoEffect { kind, field: "js_beta", because });
        }
        require(kind, "js_beta", "in (0, 1)", beta, beta > 0.0 && beta < 1.0)
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::SftOnly
    }

    fn needs_reference(&self) -> bool {
        false
    }

    /// The part that is a function of log-probs; the divergence is added where the logits are.
    fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: 1.0 - self.alpha, rejected: 0.0 }
    }

    fn direction(&self) -> Direction {
        Direction::DownOrZero
    }
}
