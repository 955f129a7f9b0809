//! The pair losses of the DPO family, as functions of the log-ratios of both sides.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::function::Direction;
use crate::logistic::{bounded_exp, log_sigmoid, sigmoid, smoothed};

/// The pair loss. a and b are the log-ratios log π − log ref of chosen and rejected, in nats, h = a − b, and T the number of
/// tokens of a side. Names are TRL's where TRL has the loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DpoLossType {
    /// −(1 − ε)·log σ(βh) − ε·log σ(−βh), ε = `label_smoothing` (Mitchell 2023, conservative DPO).
    #[default]
    Sigmoid,
    /// −log σ(β(a/T⁺ − b/T⁻)): `sigmoid` per token.
    SigmoidNorm,
    /// max(0, 1 − βh) (SLiC, Zhao et al. 2023, arXiv 2305.10425).
    Hinge,
    /// (h − 1/(2β))² (Azar et al. 2023, arXiv 2310.12036).
    Ipo,
    /// (a/T⁺ − b/T⁻ − 1/(2β))²: `ipo` per token, which TRL calls `ipo`.
    IpoNorm,
    /// KL of σ(βh) from 1 − ε, ε = `label_smoothing` > 0 (EXO, Ji et al. 2024, arXiv 2402.00856, equation 16).
    ExoPair,
    /// −log σ(βa) − ½·log σ(−βa) − ½·log σ(−βb) (NCA, Chen et al. 2024, arXiv 2402.05369).
    NcaPair,
    /// (−(1 − ε)·log σ(βh) + ε·log σ(−βh)) / (1 − 2ε), ε = `label_smoothing` (Chowdhury et al. 2024, arXiv 2403.00409).
    Robust,
    /// −log σ(βa) − log σ(−βb) (BCO without its running mean, Jung et al. 2024, arXiv 2404.04656).
    BcoPair,
    /// (a − 1/(2β))² + (b + 1/(2β))² (SPPO with hard labels, Wu et al. 2024, arXiv 2405.00675).
    SppoHard,
    /// `sigmoid` of the k-th smallest difference logp(y+) − logp(y−) of the step less the k-th smallest of the reference
    /// (AOT, Melnyk et al. 2024, arXiv 2406.05882). TRL sorts a device's micro-batch.
    Aot,
    /// `sigmoid` of the k-th smallest a of the step less the k-th smallest b (AOT, unpaired).
    AotUnpaired,
    /// 1 − σ(βa) + σ(βb) (APO-zero, D'Oosterlinck et al. 2024, arXiv 2408.06266).
    ApoZero,
    /// σ(βa) + 1 − σ(βh) (APO-down, as above).
    ApoDown,
    /// −(1 − m)·log σ(βh) + m·e^(−βh), m = σ(βh/τ), τ = `discopop_tau` (DiscoPOP, Lu et al. 2024, arXiv 2406.08414).
    Discopop,
    /// NLL(y+), the token mean.
    Sft,
    /// −log σ(h) + (a − 1/(2β))² + (b + 1/(2β))² (Cal-DPO, Xiao et al. 2024, arXiv 2412.14516).
    Cal,
    /// −log σ(β(a − λb)), λ = `shift_lambda` (DPO-Shift, Yang et al. 2025, arXiv 2502.07599).
    Shift,
    /// −log σ(β·min(a, −αb)), α = `balance` (BPO, arXiv 2506.03557).
    Balanced,
}

/// Numbers of the formulas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constants {
    pub beta: f64,
    pub epsilon: f64,
    pub discopop_tau: f64,
    pub shift_lambda: f64,
    pub balance: f64,
}

/// Log-ratios of the two sides, the arguments of the formulas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ratios {
    pub chosen: f64,
    pub rejected: f64,
    /// T⁺ and T⁻.
    pub tokens: (f64, f64),
}

/// A value with its derivatives by a and b.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct RatioTerms {
    pub value: f64,
    pub d_chosen: f64,
    pub d_rejected: f64,
}

impl RatioTerms {
    fn new(value: f64, d_chosen: f64, d_rejected: f64) -> Self {
        Self { value, d_chosen, d_rejected }
    }

    /// A function of h alone.
    fn of_difference(value: f64, d_h: f64) -> Self {
        Self::new(value, d_h, -d_h)
    }

    /// Adds `weight` times another.
    pub(super) fn add(&mut self, weight: f64, other: Self) {
        self.value += weight * other.value;
        self.d_chosen += weight * other.d_chosen;
        self.d_rejected += weight * other.d_rejected;
    }
}

impl DpoLossType {
    /// Those that read `label_smoothing`.
    pub(super) fn smooths(self) -> bool {
        matches!(self, Self::Sigmoid | Self::ExoPair | Self::Robust | Self::Aot | Self::AotUnpaired)
    }

    /// Those that are defined for other divergences than the reverse KL: functions of one difference of scores.
    pub(super) fn takes_divergence(self) -> bool {
        use DpoLossType::{Discopop, ExoPair, Hinge, Ipo, IpoNorm, Robust, Sft, Sigmoid, SigmoidNorm};
        matches!(self, Sigmoid | SigmoidNorm | Hinge | Ipo | IpoNorm | ExoPair | Robust | Discopop | Sft)
    }

    /// Those that divide by the number of tokens themselves.
    pub(super) fn is_per_token(self) -> bool {
        matches!(self, Self::SigmoidNorm | Self::IpoNorm)
    }

    /// Those that compare the pairs of a step with each other.
    pub(super) fn sorts(self) -> bool {
        matches!(self, Self::Aot | Self::AotUnpaired)
    }

    pub(super) fn direction(self, epsilon: f64) -> Direction {
        match self {
            Self::Sigmoid | Self::Aot | Self::AotUnpaired if epsilon > 0.0 => Direction::Both,
            Self::Ipo | Self::IpoNorm | Self::ExoPair | Self::SppoHard | Self::Discopop | Self::Cal => Direction::Both,
            Self::Hinge | Self::Balanced | Self::Sft => Direction::DownOrZero,
            _ => Direction::AlwaysDown,
        }
    }

    /// One pair by itself. Of a loss that compares pairs, the value of a step of one pair.
    pub(super) fn of_pair(self, ratios: Ratios, constants: Constants) -> RatioTerms {
        let Ratios { chosen: a, rejected: b, tokens } = ratios;
        let Constants { beta, epsilon, .. } = constants;
        let h = a - b;
        match self {
            Self::Sigmoid | Self::Aot | Self::AotUnpaired => {
                let (value, d_z) = smoothed(beta * h, epsilon);
                RatioTerms::of_difference(value, beta * d_z)
            }
            Self::SigmoidNorm => {
                let (value, d_z) = smoothed(beta * (a / tokens.0 - b / tokens.1), 0.0);
                RatioTerms::new(value, beta * d_z / tokens.0, -beta * d_z / tokens.1)
            }
            Self::Hinge => {
                let short = (1.0 - beta * h).max(0.0);
                RatioTerms::of_difference(short, if short > 0.0 { -beta } else { 0.0 })
            }
            Self::Ipo => {
                let off = h - 0.5 / beta;
                RatioTerms::of_difference(off * off, 2.0 * off)
            }
            Self::IpoNorm => {
                let off = a / tokens.0 - b / tokens.1 - 0.5 / beta;
                RatioTerms::new(off * off, 2.0 * off / tokens.0, -2.0 * off / tokens.1)
            }
            Self::ExoPair => exo_pair(h, constants),
            Self::NcaPair => {
                let (u, v) = (beta * a, beta * b);
                let value = -log_sigmoid(u) - 0.5 * log_sigmoid(-u) - 0.5 * log_sigmoid(-v);
                RatioTerms::new(value, beta * (0.5 * sigmoid(u) - sigmoid(-u)), 0.5 * beta * sigmoid(v))
            }
            Self::Robust => {
                let z = beta * h;
                let share = 1.0 / (1.0 - 2.0 * epsilon);
                let value = share * (epsilon * log_sigmoid(-z) - (1.0 - epsilon) * log_sigmoid(z));
                RatioTerms::of_difference(value, -beta * share * (epsilon * sigmoid(z) + (1.0 - epsilon) * sigmoid(-z)))
            }
            Self::BcoPair => {
                let value = -log_sigmoid(beta * a) - log_sigmoid(-beta * b);
                RatioTerms::new(value, -beta * sigmoid(-beta * a), beta * sigmoid(beta * b))
            }
            Self::SppoHard => {
                let (off_a, off_b) = (a - 0.5 / beta, b + 0.5 / beta);
                RatioTerms::new(off_a * off_a + off_b * off_b, 2.0 * off_a, 2.0 * off_b)
            }
            Self::ApoZero => {
                let (u, v) = (sigmoid(beta * a), sigmoid(beta * b));
                // 1 − σ(x) without cancellation is σ(−x)
                let (not_u, not_v) = (sigmoid(-beta * a), sigmoid(-beta * b));
                RatioTerms::new(not_u + v, -beta * u * not_u, beta * v * not_v)
            }
            Self::ApoDown => {
                let (u, not_u) = (sigmoid(beta * a), sigmoid(-beta * a));
                let (m, not_m) = (sigmoid(beta * h), sigmoid(-beta * h));
                RatioTerms::new(u + not_m, beta * (u * not_u - m * not_m), beta * m * not_m)
            }
            Self::Discopop => discopop(h, constants),
            // the token mean over the step is a cross-entropy part of the objective, not of the pair
            Self::Sft => RatioTerms::default(),
            Self::Cal => {
                let (value, d_h) = smoothed(h, 0.0);
                let mut grads = Self::SppoHard.of_pair(ratios, constants);
                grads.add(1.0, RatioTerms::of_difference(value, d_h));
                grads
            }
            Self::Shift => {
                let lambda = constants.shift_lambda;
                let (value, d_z) = smoothed(beta * (a - lambda * b), 0.0);
                RatioTerms::new(value, beta * d_z, -beta * lambda * d_z)
            }
            Self::Balanced => {
                let (alpha, is_chosen) = (constants.balance, a <= -constants.balance * b);
                let (value, d_z) = smoothed(beta * if is_chosen { a } else { -alpha * b }, 0.0);
                let (d_chosen, d_rejected) = if is_chosen { (beta * d_z, 0.0) } else { (0.0, -beta * alpha * d_z) };
                RatioTerms::new(value, d_chosen, d_rejected)
            }
        }
    }
}

fn exo_pair(h: f64, constants: Constants) -> RatioTerms {
    let Constants { beta, epsilon, .. } = constants;
    let z = beta * h;
    let (q, log_q, log_not_q) = (sigmoid(z), log_sigmoid(z), log_sigmoid(-z));
    let (to_chosen, to_rejected) = (log_q - (-epsilon).ln_1p(), log_not_q - epsilon.ln());
    let value = q * to_chosen + (1.0 - q) * to_rejected;
    RatioTerms::of_difference(value, beta * q * sigmoid(-z) * (to_chosen - to_rejected))
}

fn discopop(h: f64, constants: Constants) -> RatioTerms {
    let Constants { beta, .. } = constants;
    let z = beta * h;
    let (m, not_m) = (sigmoid(z / constants.discopop_tau), sigmoid(-z / constants.discopop_tau));
    let (exponential, by_exponent) = bounded_exp(-z);
    let logistic = -log_sigmoid(z);
    let d_m = m * not_m / constants.discopop_tau;
    let value = not_m * logistic + m * exponential;
    let d_z = d_m * (exponential - logistic) - not_m * sigmoid(-z) - m * by_exponent;
    RatioTerms::of_difference(value, beta * d_z)
}
