//! GPO, offline GRPO: the scored completions of a prompt, each weighed by its advantage over the others (GRPO: Shao et al.
//! 2024, arXiv 2402.03300; the factor of probabilities: effective_llm_alignment).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::advantage::Advantage;
use crate::batch::Totals;
use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, GroupLoss, LossFunction, Pairing, SftWeights, require};
use crate::vector::exp;

/// g, the factor of an advantage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GpoLossType {
    /// p = e^ℓ. Its gradient by ℓ is −A·p: bounded, and the smaller the less likely a token is already, so that no token of a
    /// bad completion is driven down without end.
    #[default]
    ProbWeighted,
    /// ℓ: the policy gradient. Its gradient by ℓ is −A at every ℓ, so that without a floor a bad completion's tokens fall
    /// without end.
    Reinforce,
}

/// The mean that a token's term goes into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// Over the tokens of a completion, then over the completions of a group, then over groups.
    #[default]
    Group,
    /// Over the tokens of a completion, then over all completions of the step: a larger group weighs more.
    Grpo,
    /// Over all tokens of the step: a longer completion weighs more (DAPO, arXiv 2503.14476).
    Bnpo,
    /// Sums over the tokens of a completion divided by `dr_grpo_length`, then the mean over all completions of the step: no
    /// weight depends on a length (Dr. GRPO, arXiv 2503.20783).
    DrGrpo,
}

/// GPO. The loss of a token of a completion with advantage A is −A·g(ℓ), plus `kl_beta`·k3 where a reference is compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GpoConfig {
    /// g, the factor of an advantage.
    pub loss_type: GpoLossType,
    /// The advantages A of a group's completions, by their rewards.
    pub advantage: Advantage,
    /// Largest size of an advantage, greater than 0.
    pub advantage_clip: f64,
    /// The mean that a token's term goes into.
    pub normalization: Normalization,
    /// Divisor of `normalization` = "dr_grpo", in tokens, at least 1: the length that completions may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dr_grpo_length: Option<f64>,
    /// Weight ≥ 0 of the divergence from the reference, estimated by k3 = e^u − u − 1 with u = log ref − ℓ at every token; 0
    /// loads no reference. No transform acts on it.
    pub kl_beta: f64,
}

impl Default for GpoConfig {
    fn default() -> Self {
        Self {
            loss_type: GpoLossType::ProbWeighted,
            advantage: Advantage::ZNorm,
            advantage_clip: 10.0,
            normalization: Normalization::Group,
            dr_grpo_length: None,
            kl_beta: 0.0,
        }
    }
}

impl LossFunction for GpoConfig {
    const KIND: &'static str = "gpo";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[
            Spelling::same("loss_type"),
            Spelling::same("advantage"),
            Spelling::same("advantage_clip"),
            Spelling::same("normalization"),
            Spelling::same("dr_grpo_length"),
            Spelling::same("kl_beta"),
            Spelling::same("lower_clip_percentile"),
            Spelling::same("upper_clip_percentile"),
            Spelling::same("min_log_prob"),
        ],
        distinctive: &["kl_beta", "advantage", "advantage_clip", "dr_grpo_length"],
        suggestive: &[],
        loss_types: &[],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange {
            key: "kl_beta",
            from: 0.0,
            to: 0.04,
            source: "effective_llm_alignment and TRL: 0; arXiv 2402.03300: 0.04",
        },
        UsualRange { key: "advantage_clip", from: 10.0, to: 10.0, source: "Halo's offline GRPO" },
    ];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 1e-6, source: "arXiv 2402.03300 and TRL, of GRPO on policy" }),
        lora: None,
    };

    fn variants() -> Vec<Self> {
        let default = Self::default();
        vec![
            default.clone(),
            Self { loss_type: GpoLossType::Reinforce, ..default.clone() },
            Self { kl_beta: 0.04, ..default.clone() },
            Self { normalization: Normalization::Grpo, advantage: Advantage::Minmax, ..default.clone() },
            Self { normalization: Normalization::Bnpo, advantage: Advantage::QuantileNorm, ..default.clone() },
            Self {
                normalization: Normalization::DrGrpo,
                dr_grpo_length: Some(64.0),
                advantage: Advantage::Robust,
                advantage_clip: 0.5,
                ..default
            },
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let kind = Self::KIND;
        require(kind, "advantage_clip", "finite and greater than 0", self.advantage_clip, self.advantage_clip > 0.0)?;
        require(kind, "kl_beta", "finite and at least 0", self.kl_beta, self.kl_beta >= 0.0)?;
        match (self.normalization, self.dr_grpo_length) {
            (Normalization::DrGrpo, Some(length)) => {
                require(kind, "dr_grpo_length", "finite and at least 1", length, length >= 1.0)
            }
            (Normalization::DrGrpo, None) => Err(ConfigError::Mismatch {
                kind,
                field: "dr_grpo_length".to_owned(),
                expected: "a number of tokens, as `normalization` is \"dr_grpo\"".to_owned(),
                got: "nothing".to_owned(),
            }),
            (_, Some(_)) => {
                let because = "unless `normalization` is \"dr_grpo\"";
                Err(ConfigError::NoEffect { kind, field: "dr_grpo_length", because })
            }
            (_, None) => Ok(()),
        }
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Groupwise(self)
    }

    fn needs_reference(&self) -> bool {
        self.kl_beta > 0.0
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights::default()
    }

    fn direction(&self) -> Direction {
        if self.kl_beta > 0.0 { Direction::Both } else { Direction::AlwaysDown }
    }
}

impl GroupLoss for GpoConfig {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        let clip = self.advantage_clip;
        self.advantage.of(rewards).into_iter().map(|advantage| advantage.clamp(-clip, clip)).collect()
    }

    fn token(&self, logp: f64) -> (f64, f64) {
        match self.loss_type {
            GpoLossType::ProbWeighted => {
                let p = exp(logp);
                (p, p)
            }
            GpoLossType::Reinforce => (logp, 1.0),
        }
    }

    fn share(&self, totals: &Totals, size: usize, tokens: usize) -> f64 {
        let count = match self.normalization {
            Normalization::Group => totals.pairs as f64 * size as f64 * tokens as f64,
            Normalization::Grpo => totals.completions() as f64 * tokens as f64,
            Normalization::Bnpo => totals.tokens() as f64,
            Normalization::DrGrpo => totals.completions() as f64 * self.dr_grpo_length.unwrap_or(1.0),
        };
        1.0 / count
    }

    fn kl_weight(&self) -> f64 {
        self.kl_beta
    }
}
