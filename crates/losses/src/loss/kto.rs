//! KTO (Ethayarajh et al. 2024, arXiv 2402.01306): unpaired, each completion against a KL baseline.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Score, require};
use crate::batch::{Batch, Side};
use crate::error::{BatchError, ConfigError};
use crate::logistic::sigmoid;

/// Where the baseline z comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlBaseline {
    /// max(0, mean of logp − ref over completions of *other* prompts), detached: the paper's estimate.
    #[default]
    Mismatched,
    /// 0, which saves the forward passes.
    Zero,
}

/// KTO's own keys. With r = logp − ref, a chosen completion costs λ₊·(1 − σ(β(r − z))) and a rejected one
/// λ₋·(1 − σ(β(z − r))); the loss is the mean over completions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KtoConfig {
    /// β > 0.
    pub beta: f64,
    /// λ₊ ≥ 0.
    pub desirable_weight: f64,
    /// λ₋ ≥ 0.
    pub undesirable_weight: f64,
    /// The baseline z.
    pub kl_baseline: KlBaseline,
}

impl Default for KtoConfig {
    fn default() -> Self {
        Self { beta: 0.1, desirable_weight: 1.0, undesirable_weight: 1.0, kl_baseline: KlBaseline::Mismatched }
    }
}

/// One completion's loss.
pub(crate) struct CompletionTerms {
    pub(crate) value: f64,
    /// ∂value/∂(policy score).
    pub(crate) by_score: f64,
    pub(crate) reward: f64,
}

impl KtoConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        require("kto", "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        for (field, weight) in
            [("desirable_weight", self.desirable_weight), ("undesirable_weight", self.undesirable_weight)]
        {
            require("kto", field, "finite and at least 0", weight, weight >= 0.0)?;
        }
        Ok(())
    }

    /// z of the step, in nats.
    pub(crate) fn baseline(&self, batch: &Batch<'_>) -> Result<f64, BatchError> {
        if self.kl_baseline == KlBaseline::Zero {
            return Ok(0.0);
        }
        if batch.mismatched.is_empty() {
            return Err(BatchError::NoMismatched);
        }
        let log_ratios = batch.mismatched.iter().map(|completion| {
            completion.logps.iter().sum::<f64>() - completion.ref_logps.unwrap_or_default().iter().sum::<f64>()
        });
        Ok((log_ratios.sum::<f64>() / batch.mismatched.len() as f64).max(0.0))
    }

    pub(crate) fn completion(&self, side: Side, score: Score, baseline: f64) -> CompletionTerms {
        let (sign, weight) = match side {
            Side::Chosen => (1.0, self.desirable_weight),
            Side::Rejected => (-1.0, self.undesirable_weight),
        };
        let z = sign * self.beta * (score.ratio() - baseline);
        // 1 − σ(z) = σ(−z), and σ' = σ(z)·σ(−z).
        CompletionTerms {
            value: weight * sigmoid(-z),
            by_score: -sign * self.beta * weight * sigmoid(z) * sigmoid(-z),
            reward: self.beta * score.ratio(),
        }
    }
}
