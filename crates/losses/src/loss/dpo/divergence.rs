//! f-divergences (Wang et al. 2023, "Beyond reverse KL", arXiv 2309.16240): each replaces a log-ratio r by f′(e^r).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::logistic::{bounded_exp, log_sigmoid, sigmoid};

/// The divergence from the reference that the loss regularises. Exponents are cut at 80 nats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FDivergence {
    /// r itself: DPO.
    #[default]
    ReverseKl,
    /// 1 − e^(−r).
    ForwardKl,
    /// log 2 + log σ(r).
    JsDivergence,
    /// (e^((α−1)r) − 1)/(α − 1), α = `f_alpha_divergence_coef`; r itself at α = 1.
    AlphaDivergence,
    /// r·e^(−r), from f(t) = ½(log t)² (Squared-PO, arXiv 2602.06788): past r = 1 it falls again.
    Squared,
}

impl FDivergence {
    /// f′(e^r) with its derivative by r.
    pub(super) fn at(self, r: f64, alpha: f64) -> (f64, f64) {
        match self {
            Self::ReverseKl => (r, 1.0),
            Self::ForwardKl => {
                let (e, derivative) = bounded_exp(-r);
                (1.0 - e, derivative)
            }
            Self::JsDivergence => (std::f64::consts::LN_2 + log_sigmoid(r), sigmoid(-r)),
            // TRL's limit case
            Self::AlphaDivergence if (alpha - 1.0).abs() < 1e-6 => (r, 1.0),
            Self::AlphaDivergence => {
                let (e, derivative) = bounded_exp((alpha - 1.0) * r);
                ((e - 1.0) / (alpha - 1.0), derivative)
            }
            Self::Squared => {
                let (e, derivative) = bounded_exp(-r);
                (r * e, e - r * derivative)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_divergence_has_the_value_and_the_derivative_of_its_formula() {
        let (r, ln2) = (std::f64::consts::LN_2, std::f64::consts::LN_2);
        let root = 2f64.sqrt();
        for (divergence, alpha, value, derivative) in [
            (FDivergence::ReverseKl, 0.5, ln2, 1.0),
            (FDivergence::ForwardKl, 0.5, 0.5, 0.5),
            (FDivergence::JsDivergence, 0.5, ln2 + (2.0f64 / 3.0).ln(), 1.0 / 3.0),
            (FDivergence::AlphaDivergence, 2.0, 1.0, 2.0),
            (FDivergence::AlphaDivergence, 0.5, 2.0 * (1.0 - 1.0 / root), 1.0 / root),
            (FDivergence::AlphaDivergence, 1.0, ln2, 1.0),
            (FDivergence::AlphaDivergence, 1.0 + 1e-9, ln2, 1.0),
            (FDivergence::Squared, 0.5, 0.5 * ln2, 0.5 * (1.0 - ln2)),
        ] {
            let got = divergence.at(r, alpha);
            let near = (got.0 - value).abs() < 1e-14 && (got.1 - derivative).abs() < 1e-14;
            assert!(near, "{divergence:?} at α = {alpha}: {got:?}, expected {value} and {derivative}");
        }
    }
}
