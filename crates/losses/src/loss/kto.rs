//! KTO (Ethayarajh et al. 2024, arXiv 2402.01306): unpaired, each completion against a KL baseline.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Side};
use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::{BatchError, ConfigError};
use crate::function::{CompletionTerms, Direction, LossFunction, Pairing, Score, SftWeights, UnpairedLoss, require};
use crate::logistic::sigmoid;
use crate::reduction::Reduction;

/// Estimate of the baseline z.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlBaseline {
    /// max(0, mean of logp − ref over completions of *other* prompts), detached: the paper's estimate. Each prompt of a
    /// step gets the completion of a row with another prompt: of the same step where it has one, else (a step of one row,
    /// or of one prompt) from elsewhere in the data.
    #[default]
    Mismatched,
    /// 0, which saves the forward passes.
    Zero,
}

/// The loss of one completion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KtoLossType {
    /// Against the baseline z.
    #[default]
    Kto,
    /// Against 0: APO-zero for completions without a pair (D'Oosterlinck et al. 2024, arXiv 2408.06266).
    ApoZeroUnpaired,
}

/// KTO. With r = logp − ref, a chosen completion costs λ₊·(1 − σ(β(r − z))) and a rejected one
/// λ₋·(1 − σ(β(z − r))); the loss is the mean over completions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KtoConfig {
    /// The loss of one completion.
    pub loss_type: KtoLossType,
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
        Self {
            loss_type: KtoLossType::Kto,
            beta: 0.1,
            desirable_weight: 1.0,
            undesirable_weight: 1.0,
            kl_baseline: KlBaseline::Mismatched,
        }
    }
}

const BALANCE: &str = "TRL, for as many completions of each kind: λ₊·n₊ to λ₋·n₋ is 1:1 to 4:3";

impl LossFunction for KtoConfig {
    const KIND: &'static str = "kto";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[
            Spelling::same("beta"),
            Spelling::same("desirable_weight"),
            Spelling::same("undesirable_weight"),
            Spelling::same("loss_type"),
        ],
        distinctive: &["desirable_weight", "undesirable_weight"],
        suggestive: &[],
        loss_types: &["kto"],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "beta", from: 0.1, to: 0.1, source: "arXiv 2402.01306 and TRL" },
        UsualRange { key: "desirable_weight", from: 1.0, to: 1.33, source: BALANCE },
        UsualRange { key: "undesirable_weight", from: 1.0, to: 1.33, source: BALANCE },
    ];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 5e-6, source: "arXiv 2402.01306 and TRL, from 5e-7" }),
        lora: Some(PublishedRate { highest: 5e-6, source: "that of all weights; none is published" }),
    };

    fn variants() -> Vec<Self> {
        vec![
            Self::default(),
            Self { desirable_weight: 1.5, ..Self::default() },
            Self { kl_baseline: KlBaseline::Zero, ..Self::default() },
            Self { loss_type: KtoLossType::ApoZeroUnpaired, ..Self::default() },
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        for (field, weight) in
            [("desirable_weight", self.desirable_weight), ("undesirable_weight", self.undesirable_weight)]
        {
            require(Self::KIND, field, "finite and at least 0", weight, weight >= 0.0)?;
        }
        Ok(())
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Unpaired(self)
    }

    fn needs_reference(&self) -> bool {
        true
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights::default()
    }

    fn direction(&self) -> Direction {
        Direction::AlwaysDown
    }
}

impl UnpairedLoss for KtoConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Sum
    }

    fn needs_mismatched(&self) -> bool {
        self.kl_baseline == KlBaseline::Mismatched && self.loss_type == KtoLossType::Kto
    }

    fn baseline(&self, batch: &Batch<'_>) -> Result<f64, BatchError> {
        if !self.needs_mismatched() {
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

    fn completion(&self, side: Side, score: Score, baseline: f64) -> CompletionTerms {
        let (sign, weight) = match side {
            Side::Chosen => (1.0, self.desirable_weight),
            Side::Rejected => (-1.0, self.undesirable_weight),
        };
        let z = sign * self.beta * (score.ratio() - baseline);
        // 1 − σ(z) = σ(−z), and σ' = σ(z)·σ(−z).
        CompletionTerms {
            value: weight * sigmoid(-z),
            d_score: -sign * self.beta * weight * sigmoid(z) * sigmoid(-z),
            reward: self.beta * score.ratio(),
        }
    }
}
