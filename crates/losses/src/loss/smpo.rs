//! SMPO, simple margin preference optimization: mean log-probs, a margin, and cross-entropy on both sides.
//!
//! Source: VikhrModels, effective_llm_alignment, and the post on QVikhr-2.5-1.5B-Instruct-SMPO. With the
//! [transforms](crate::transform) it is modified SMPO.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights, require};
use crate::logistic::{log_sigmoid, sigmoid};
use crate::reduction::Reduction;

/// The pair loss as a function of Δ = s(y+) − s(y−) − γ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmpoLossType {
    /// max(0, −βΔ)².
    #[default]
    SmoothLowerBound,
    /// max(0, −βΔ)² + max(0, β(Δ − δ))².
    SmoothDoubleBound,
    /// −log σ(βΔ).
    Sigmoid,
    /// max(0, −βΔ).
    Hinge,
    /// (βΔ)².
    Ipo,
}

/// SMPO. The objective is the mean pair loss + ρ·NLL(y+) + (1 − ρ)·NLL(y−).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SmpoConfig {
    /// The pair loss.
    pub loss_type: SmpoLossType,
    /// β > 0.
    pub beta: f64,
    /// γ ≥ 0, in nats per token, at the end of the schedule. Old files call it `margin_min`.
    #[serde(alias = "margin_min")]
    pub target_margin: f64,
    /// δ > 0, in nats per token: how far above γ the margin may go. Read by `smooth_double_bound` alone, and accepted
    /// beside the others because every published file sets it.
    pub margin_delta: f64,
    /// ρ in [0, 1]: the share of chosen in the cross-entropy part.
    pub chosen_sft_ratio: f64,
    /// True: γ rises linearly from `initial_margin` over training.
    pub use_margin_schedule: bool,
    /// γ ≥ 0 at the start of the schedule, in nats per token; a smaller target begins at itself.
    pub initial_margin: f64,
}

impl Default for SmpoConfig {
    fn default() -> Self {
        Self {
            loss_type: SmpoLossType::SmoothLowerBound,
            beta: 1.2,
            target_margin: 0.35,
            margin_delta: 0.2,
            chosen_sft_ratio: 0.8,
            use_margin_schedule: true,
            initial_margin: 0.01,
        }
    }
}

/// QVikhr-2.5-1.5B, Vikhr-Nemo 12B and Phi-4 14B v14, all with LoRA.
const RECIPES: &str = "VikhrModels' recipes";

impl LossFunction for SmpoConfig {
    const KIND: &'static str = "smpo";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[
            Spelling::same("beta"),
            Spelling::same("loss_type"),
            Spelling::same("target_margin"),
            Spelling::renamed("margin_min", "target_margin"),
            Spelling::same("margin_delta"),
            Spelling::same("chosen_sft_ratio"),
            Spelling::same("use_margin_schedule"),
            Spelling::same("initial_margin"),
            Spelling::same("lower_clip_percentile"),
            Spelling::renamed("lower_trim_percentile", "lower_clip_percentile"),
            Spelling::same("upper_clip_percentile"),
            Spelling::renamed("upper_trim_percentile", "upper_clip_percentile"),
            Spelling::same("min_log_prob"),
        ],
        distinctive: &["margin_min", "target_margin", "chosen_sft_ratio"],
        suggestive: &[],
        loss_types: &[],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "beta", from: 1.1, to: 1.6, source: RECIPES },
        UsualRange { key: "target_margin", from: 0.35, to: 0.5, source: RECIPES },
        UsualRange {
            key: "initial_margin",
            from: 0.01,
            to: 0.2,
            source: "Halo's recipes; fixed at 0.01 in VikhrModels'",
        },
        UsualRange { key: "margin_delta", from: 0.2, to: 0.2, source: RECIPES },
        UsualRange { key: "chosen_sft_ratio", from: 0.75, to: 1.0, source: RECIPES },
    ];
    // Nothing is published for all weights; the rate for LoRA stands in.
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 2e-5, source: "that of LoRA; none is published" }),
        lora: Some(PublishedRate { highest: 2e-5, source: RECIPES }),
    };

    fn variants() -> Vec<Self> {
        let of = |loss_type| Self { loss_type, ..Self::default() };
        vec![
            of(SmpoLossType::SmoothLowerBound),
            of(SmpoLossType::SmoothDoubleBound),
            of(SmpoLossType::Sigmoid),
            of(SmpoLossType::Hinge),
            of(SmpoLossType::Ipo),
            Self { chosen_sft_ratio: 1.0, ..of(SmpoLossType::Sigmoid) },
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        require(Self::KIND, "beta", "finite and greater than 0", self.beta, self.beta > 0.0)?;
        require(Self::KIND, "target_margin", "finite and at least 0", self.target_margin, self.target_margin >= 0.0)?;
        let initial = self.initial_margin;
        require(Self::KIND, "initial_margin", "finite and at least 0", initial, initial >= 0.0)?;
        require(Self::KIND, "margin_delta", "finite and greater than 0", self.margin_delta, self.margin_delta > 0.0)?;
        let rho = self.chosen_sft_ratio;
        require(Self::KIND, "chosen_sft_ratio", "in [0, 1]", rho, (0.0..=1.0).contains(&rho))
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pairwise(self)
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: self.chosen_sft_ratio, rejected: 1.0 - self.chosen_sft_ratio }
    }

    fn direction(&self) -> Direction {
        match self.loss_type {
            SmpoLossType::Sigmoid => Direction::AlwaysDown,
            SmpoLossType::SmoothLowerBound | SmpoLossType::Hinge => Direction::DownOrZero,
            SmpoLossType::SmoothDoubleBound | SmpoLossType::Ipo => Direction::Both,
        }
    }

    fn at_step(&self, step: u64, steps: u64) -> Self {
        Self { target_margin: self.margin_at(step, steps), use_margin_schedule: false, ..self.clone() }
    }

    fn target_margin(&self) -> Option<f64> {
        Some(self.target_margin)
    }

    fn with_target_margin(&self, margin: f64) -> Option<Self> {
        Some(Self { target_margin: margin, use_margin_schedule: false, ..self.clone() })
    }
}

impl SmpoConfig {
    /// γ at optimizer step `step` (from 0) of `steps`: linear from `initial_margin` at the first step to the target at the last.
    pub fn margin_at(&self, step: u64, steps: u64) -> f64 {
        if !self.use_margin_schedule || steps <= 1 {
            return self.target_margin;
        }
        let first = self.initial_margin.min(self.target_margin);
        let progress = step as f64 / (steps - 1) as f64;
        first + (self.target_margin - first) * progress.min(1.0)
    }
}

impl PairwiseLoss for SmpoConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        let beta = self.beta;
        let scaled = beta * (chosen.policy - rejected.policy - self.target_margin);
        let short = (-scaled).max(0.0);
        // Value and derivative by βΔ.
        let (value, d_scaled) = match self.loss_type {
            SmpoLossType::SmoothLowerBound => (short * short, -2.0 * short),
            SmpoLossType::SmoothDoubleBound => {
                let over = (scaled - beta * self.margin_delta).max(0.0);
                (short * short + over * over, 2.0 * over - 2.0 * short)
            }
            SmpoLossType::Sigmoid => (-log_sigmoid(scaled), -sigmoid(-scaled)),
            SmpoLossType::Hinge => (short, if short > 0.0 { -1.0 } else { 0.0 }),
            SmpoLossType::Ipo => (scaled * scaled, 2.0 * scaled),
        };
        PairTerms {
            value,
            d_chosen: beta * d_scaled,
            d_rejected: -beta * d_scaled,
            chosen_reward: beta * chosen.policy,
            rejected_reward: beta * rejected.policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(config: &SmpoConfig, chosen: f64, rejected: f64) -> f64 {
        let score = |policy| Score { policy, reference: 0.0, tokens: 1 };
        config.pair(score(chosen), score(rejected)).value
    }

    #[test]
    fn each_loss_type_has_the_value_of_its_formula() {
        // β = 2, s+ = −1, s− = −1.1, γ = 0.35: Δ = −0.25, βΔ = −0.5. And with s− = −2: Δ = 0.65, βΔ = 1.3.
        let expected = [
            (SmpoLossType::SmoothLowerBound, 0.25, 0.0),
            (SmpoLossType::SmoothDoubleBound, 0.25, 0.81), // over by β(0.65 − 0.2) = 0.9
            (SmpoLossType::Sigmoid, 0.974_076_984_180_107, 0.241_008_453_832_985),
            (SmpoLossType::Hinge, 0.5, 0.0),
            (SmpoLossType::Ipo, 0.25, 1.69),
        ];
        for (loss_type, short, met) in expected {
            let config = SmpoConfig { loss_type, beta: 2.0, target_margin: 0.35, ..SmpoConfig::default() };
            assert!((value(&config, -1.0, -1.1) - short).abs() < 1e-12, "{loss_type:?}");
            assert!((value(&config, -1.0, -2.0) - met).abs() < 1e-12, "{loss_type:?}");
        }
    }

    #[test]
    fn a_pair_on_its_margin_is_left_alone() {
        let config = SmpoConfig { beta: 2.0, target_margin: 0.5, ..SmpoConfig::default() };
        for loss_type in [SmpoLossType::SmoothLowerBound, SmpoLossType::SmoothDoubleBound, SmpoLossType::Hinge] {
            let score = |policy| Score { policy, reference: 0.0, tokens: 1 };
            let terms = SmpoConfig { loss_type, ..config.clone() }.pair(score(-1.0), score(-1.5));
            assert_eq!((terms.value, terms.d_chosen, terms.d_rejected), (0.0, 0.0, 0.0), "{loss_type:?}");
        }
    }

    #[test]
    fn the_margin_rises_from_one_hundredth_to_the_target() {
        let config = SmpoConfig { target_margin: 0.41, ..SmpoConfig::default() };
        assert_eq!(config.margin_at(0, 101), 0.01);
        assert!((config.margin_at(50, 101) - 0.21).abs() < 1e-12);
        assert!((config.margin_at(100, 101) - 0.41).abs() < 1e-12);
        assert_eq!(config.margin_at(500, 101), config.margin_at(100, 101));
        assert_eq!(config.margin_at(0, 1), 0.41);
        let constant = SmpoConfig { use_margin_schedule: false, ..config };
        assert_eq!(constant.margin_at(0, 101), 0.41);
    }
}
