//! The EOS term: the log-prob in the pair loss at terminators of rejected completions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Treatment of terminators of rejected completions in the pair loss.
///
/// A pair loss is rewarded for lowering every rejected token, terminators included, and a terminator at p ≈ 0 is a
/// model that does not stop. Inverting its sign turns that reward into a penalty. A completion that did not end has no
/// terminator, so the term has nothing to act on there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EosTerm {
    /// A terminator is a token like any other.
    #[default]
    Off,
    /// Terminators leave the score and the quantile. A completion that is nothing but terminators keeps them.
    Mask,
    /// ℓ → −ℓ.
    Invert,
    /// ℓ → min(−ℓ, cap): past the cap the gradient is zero, so that the term is itself bounded.
    Bounded,
}

impl EosTerm {
    /// The term as it applies to one completion.
    pub(crate) fn on(self, is_terminator: &[bool]) -> Self {
        if self == Self::Mask && is_terminator.iter().all(|terminator| *terminator) { Self::Off } else { self }
    }

    /// Value and derivative at a terminator; `None` if it is masked out.
    pub(crate) fn apply(self, logp: f64, cap: f64) -> Option<(f64, f64)> {
        match self {
            Self::Off => Some((logp, 1.0)),
            Self::Mask => None,
            Self::Bounded if -logp > cap => Some((cap, 0.0)),
            Self::Invert | Self::Bounded => Some((-logp, -1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_term_has_its_value_and_its_derivative_on_both_sides_of_the_cap() {
        for (term, below, at, past) in [
            (EosTerm::Off, Some((-2.0, 1.0)), Some((-2.3, 1.0)), Some((-3.0, 1.0))),
            (EosTerm::Mask, None, None, None),
            (EosTerm::Invert, Some((2.0, -1.0)), Some((2.3, -1.0)), Some((3.0, -1.0))),
            (EosTerm::Bounded, Some((2.0, -1.0)), Some((2.3, -1.0)), Some((2.3, 0.0))),
        ] {
            assert_eq!([-2.0, -2.3, -3.0].map(|logp| term.apply(logp, 2.3)), [below, at, past], "{term:?}");
        }
    }
}
