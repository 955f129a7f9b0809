//! DPO (Rafailov et al. 2023, arXiv 2305.18290) and its variants, as functions of the log-ratios
//! a = logp(y+) − ref(y+) and b = logp(y−) − ref(y−).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling, UsualRange};
use crate::entropy::TokenEntropy;
use crate::error::ConfigError;
use crate::factors::{Factors, Gate, GateEstimate};
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights};
use crate::logistic::{log_sigmoid, sigmoid};
use crate::reduction::Reduction;
use crate::state::LossState;

mod divergence;
mod loss_type;
mod loss_types;
mod sorted;
mod validate;

pub use divergence::FDivergence;
pub use loss_type::DpoLossType;
use loss_type::{Constants, RatioTerms, Ratios};
pub use loss_types::LossTypes;

/// DPO and its variants. At most one of `average_log_prob`, `ld_alpha` and `sampo_seed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DpoConfig {
    /// The pair loss, or a list of pair losses that add up.
    pub loss_type: LossTypes,
    /// Weight ≥ 0 of each entry of a list `loss_type`; absent: 1 each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_weights: Option<Vec<f64>>,
    /// β > 0.
    pub beta: f64,
    /// ε in [0, 0.5); for `sigmoid`, `robust`, `exo_pair`, `aot` and `aot_unpaired`.
    pub label_smoothing: f64,
    /// The divergence whose f′ replaces log-ratios; for losses that are functions of one difference.
    pub f_divergence_type: FDivergence,
    /// α of `f_divergence_type = "alpha_divergence"`, above 0.
    pub f_alpha_divergence_coef: f64,
    /// τ > 0 of `discopop`.
    pub discopop_tau: f64,
    /// λ in (0, 1] of `shift`.
    pub shift_lambda: f64,
    /// α in (0, 1] of `balanced`.
    pub balance: f64,
    /// λ in (0, 1) of BDPO: the policy's share in the mixture λπ + (1 − λ)·ref that replaces π on rejected (arXiv
    /// 2506.12725); absent is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bdpo_lambda: Option<f64>,
    /// Weights the loss of each pair by how likely the policy is to write both completions: exp of the mean of
    /// ℓ − log Σ_v p_v², a factor without a gradient (WPO, Zhou et al. 2024, arXiv 2406.11827).
    pub use_weighting: bool,
    /// α > 0 of Gate-DPO, with `gate_tau`: the gradient on rejected times σ(α(p − τ)), a factor without a gradient
    /// (Mouiche 2026, arXiv 2605.02626); absent is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_alpha: Option<f64>,
    /// τ in [0, 1] of Gate-DPO, the probability of rejected at which its gradient is halved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_tau: Option<f64>,
    /// p of Gate-DPO.
    pub gate_estimate: GateEstimate,
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
            loss_type: LossTypes::One(DpoLossType::Sigmoid),
            loss_weights: None,
            beta: 0.1,
            label_smoothing: 0.0,
            f_divergence_type: FDivergence::ReverseKl,
            f_alpha_divergence_coef: 0.5,
            discopop_tau: 0.05,
            shift_lambda: 0.75,
            balance: 0.5,
            bdpo_lambda: None,
            use_weighting: false,
            gate_alpha: None,
            gate_tau: None,
            gate_estimate: GateEstimate::Seq,
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
            Spelling::converted("loss_type", "loss_type", loss_types),
            Spelling::same("loss_weights"),
            Spelling::same("label_smoothing"),
            Spelling::same("f_divergence_type"),
            Spelling::same("f_alpha_divergence_coef"),
            Spelling::same("discopop_tau"),
            Spelling::same("use_weighting"),
            Spelling::same("reference_free"),
            Spelling::same("rpo_alpha"),
            Spelling::same("ld_alpha"),
        ],
        distinctive: &[],
        // TRL's other trainers began as copies of its DPO trainer.
        suggestive: &[
            "rpo_alpha",
            "reference_free",
            "f_divergence_type",
            "discopop_tau",
            "loss_weights",
            "use_weighting",
        ],
        loss_types: &[],
    };
    const USUAL: &'static [UsualRange] = &[
        UsualRange { key: "beta", from: 0.01, to: 0.5, source: BETAS },
        UsualRange { key: "label_smoothing", from: 0.0, to: 0.1, source: "TRL: 0.1 for `robust`, 1e-3 for `exo_pair`" },
        UsualRange { key: "discopop_tau", from: 0.05, to: 0.05, source: "arXiv 2406.08414" },
        UsualRange { key: "shift_lambda", from: 0.5, to: 1.0, source: "arXiv 2502.07599" },
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
        let of = |loss_type: DpoLossType| Self { loss_type: loss_type.into(), ..default() };
        let gated = |gate_estimate| Self { gate_alpha: Some(20.0), gate_tau: Some(0.1), gate_estimate, ..default() };
        let diverging = |f_divergence_type| Self { f_divergence_type, ..default() };
        let list = vec![DpoLossType::Sigmoid, DpoLossType::BcoPair, DpoLossType::Sft];
        vec![
            default(),
            Self { label_smoothing: 0.1, ..default() },
            of(DpoLossType::SigmoidNorm),
            Self { beta: 0.4, ..of(DpoLossType::Hinge) },
            of(DpoLossType::Ipo),
            of(DpoLossType::IpoNorm),
            Self { label_smoothing: 0.1, ..of(DpoLossType::ExoPair) },
            of(DpoLossType::NcaPair),
            Self { label_smoothing: 0.1, ..of(DpoLossType::Robust) },
            of(DpoLossType::BcoPair),
            of(DpoLossType::SppoHard),
            of(DpoLossType::Aot),
            of(DpoLossType::AotUnpaired),
            of(DpoLossType::ApoZero),
            of(DpoLossType::ApoDown),
            of(DpoLossType::Discopop),
            of(DpoLossType::Cal),
            of(DpoLossType::Shift),
            of(DpoLossType::Balanced),
            Self { loss_type: LossTypes::Many(list), loss_weights: Some(vec![0.8, 0.2, 1.0]), ..default() },
            diverging(FDivergence::ForwardKl),
            diverging(FDivergence::JsDivergence),
            diverging(FDivergence::AlphaDivergence),
            diverging(FDivergence::Squared),
            Self { bdpo_lambda: Some(0.5), ..default() },
            Self { use_weighting: true, ..default() },
            gated(GateEstimate::Seq),
            gated(GateEstimate::Q10),
            Self { rpo_alpha: Some(0.5), ..default() },
            Self { dpop_lambda: Some(5.0), ..default() },
            Self { average_log_prob: true, beta: 1.0, ..default() },
            Self { ld_alpha: Some(0.3), ..default() },
            Self { sampo_seed: Some(1), ..default() },
            Self { reference_free: true, ..default() },
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        validate::ranges(self)?;
        validate::combinations(self)
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pairwise(self)
    }

    fn needs_reference(&self) -> bool {
        !self.reference_free
    }

    fn sft_weights(&self) -> SftWeights {
        let in_list: f64 =
            self.weighted().filter(|(loss_type, _)| *loss_type == DpoLossType::Sft).map(|(_, w)| w).sum();
        SftWeights { chosen: self.rpo_alpha.unwrap_or(0.0) + in_list, rejected: 0.0 }
    }

    fn needs_entropy(&self) -> Option<TokenEntropy> {
        self.use_weighting.then_some(TokenEntropy::Collision)
    }

    fn factors(&self) -> Factors {
        let gate = self.gate_alpha.zip(self.gate_tau);
        let estimate = self.gate_estimate;
        Factors {
            policy_weighting: self.use_weighting,
            gate: gate.map(|(steepness, threshold)| Gate { steepness, threshold, estimate }),
        }
    }

    fn direction(&self) -> Direction {
        let of_list = self.weighted().filter(|(_, weight)| *weight > 0.0);
        let directions: Vec<Direction> =
            of_list.map(|(loss_type, _)| loss_type.direction(self.label_smoothing)).collect();
        let has = |direction| directions.contains(&direction);
        match self.f_divergence_type {
            FDivergence::Squared => Direction::Both,
            _ if has(Direction::Both) => Direction::Both,
            // exponentials of a log-ratio: their σ′ underflows
            FDivergence::ForwardKl | FDivergence::AlphaDivergence => Direction::DownOrZero,
            FDivergence::ReverseKl | FDivergence::JsDivergence if has(Direction::AlwaysDown) => Direction::AlwaysDown,
            FDivergence::ReverseKl | FDivergence::JsDivergence => Direction::DownOrZero,
        }
    }
}

/// TRL's names: its `ipo` is per token. Other values are left to the key's own reader.
fn loss_types(given: &Value, _: &Map<String, Value>) -> Option<Value> {
    let renamed = |name: &Value| match name.as_str() {
        Some("ipo") => Value::from("ipo_norm"),
        _ => name.clone(),
    };
    Some(match given {
        Value::Array(names) => names.iter().map(renamed).collect(),
        name => renamed(name),
    })
}

impl DpoConfig {
    /// The pair losses with their weights.
    fn weighted(&self) -> impl Iterator<Item = (DpoLossType, f64)> {
        let weight = |at: usize| self.loss_weights.as_ref().and_then(|weights| weights.get(at)).copied().unwrap_or(1.0);
        self.loss_type.as_slice().iter().enumerate().map(move |(at, loss_type)| (*loss_type, weight(at)))
    }

    fn constants(&self) -> Constants {
        Constants {
            beta: self.beta,
            epsilon: self.label_smoothing,
            discopop_tau: self.discopop_tau,
            shift_lambda: self.shift_lambda,
            balance: self.balance,
        }
    }

    /// a and b as the pair loss is given them, each with its derivative by the policy's score.
    fn ratios(&self, chosen: Score, rejected: Score) -> (Ratios, f64, f64) {
        let positive = self.dpop_lambda.unwrap_or(0.0);
        let fallen = (-chosen.ratio()).max(0.0);
        let (a, d_a) = (chosen.ratio() - positive * fallen, if fallen > 0.0 { 1.0 + positive } else { 1.0 });
        let (b, d_b) = match self.bdpo_lambda {
            Some(lambda) => in_mixture(rejected.ratio(), lambda),
            None => (rejected.ratio(), 1.0),
        };
        let coefficient = self.f_alpha_divergence_coef;
        let (a, by_a) = self.f_divergence_type.at(a, coefficient);
        let (b, by_b) = self.f_divergence_type.at(b, coefficient);
        let tokens = (chosen.tokens as f64, rejected.tokens as f64);
        (Ratios { chosen: a, rejected: b, tokens }, d_a * by_a, d_b * by_b)
    }

    fn pair_terms(&self, chosen: Score, rejected: Score, grads: RatioTerms) -> PairTerms {
        PairTerms {
            value: grads.value,
            d_chosen: grads.d_chosen,
            d_rejected: grads.d_rejected,
            chosen_reward: self.beta * chosen.ratio(),
            rejected_reward: self.beta * rejected.ratio(),
        }
    }
}

/// log((λπ + (1 − λ)·ref)/ref) for the log-ratio r = log π − log ref, with its derivative by r.
fn in_mixture(r: f64, lambda: f64) -> (f64, f64) {
    // log(λe^r + 1 − λ) = log λ + r + log(1 + ((1 − λ)/λ)·e^(−r)): a softplus
    let offset = lambda.ln() - (-lambda).ln_1p();
    (lambda.ln() + r - log_sigmoid(r + offset), sigmoid(r + offset))
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
        let (ratios, d_a, d_b) = self.ratios(chosen, rejected);
        let constants = self.constants();
        let mut grads = RatioTerms::default();
        for (loss_type, weight) in self.weighted() {
            grads.add(weight, loss_type.of_pair(ratios, constants));
        }
        grads.d_chosen *= d_a;
        grads.d_rejected *= d_b;
        self.pair_terms(chosen, rejected, grads)
    }

    fn compares_pairs(&self) -> bool {
        self.loss_type.as_slice().iter().any(|loss_type| loss_type.sorts())
    }

    fn step(&self, pairs: &[(Score, Score)], _state: &mut LossState) -> Vec<PairTerms> {
        if !self.compares_pairs() {
            return pairs.iter().map(|(chosen, rejected)| self.pair(*chosen, *rejected)).collect();
        }
        let constants = self.constants();
        let mut grads = vec![RatioTerms::default(); pairs.len()];
        for (loss_type, weight) in self.weighted() {
            let of_step = match loss_type {
                DpoLossType::Aot => sorted::differences(pairs, constants),
                DpoLossType::AotUnpaired => sorted::ratios(pairs, constants),
                other => {
                    let of_pair = |(chosen, rejected): &(Score, Score)| {
                        other.of_pair(self.ratios(*chosen, *rejected).0, constants)
                    };
                    pairs.iter().map(of_pair).collect()
                }
            };
            grads.iter_mut().zip(of_step).for_each(|(grads, part)| grads.add(weight, part));
        }
        let terms =
            |((chosen, rejected), grads): (&(Score, Score), RatioTerms)| self.pair_terms(*chosen, *rejected, grads);
        pairs.iter().zip(grads).map(terms).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(policy: f64, reference: f64) -> Score {
        Score { policy, reference, tokens: 2 }
    }

    #[test]
    fn each_loss_type_has_the_value_of_its_formula() {
        // h = (−3 + 4) − (−6 + 5) = 2, β = 0.5: βh = 1, 1/(2β) = 1.
        let (chosen, rejected) = (score(-3.0, -4.0), score(-6.0, -5.0));
        let expected =
            [(DpoLossType::Sigmoid, 0.313_261_687_518_223), (DpoLossType::Hinge, 0.0), (DpoLossType::Ipo, 1.0)];
        for (loss_type, value) in expected {
            let config = DpoConfig { loss_type: loss_type.into(), beta: 0.5, ..DpoConfig::default() };
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
