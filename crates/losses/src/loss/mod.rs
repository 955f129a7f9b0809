//! The losses: one file each.
//!
//! A pair loss sees one score per completion ([`Reduction`]) and gives a value and its
//! derivative by either score; the chain from scores to tokens is the same for all and lives in
//! [`objective`](crate::objective).

pub mod cpo;
pub mod dpo;
pub mod kto;
pub mod orpo;
pub mod sft;
pub mod simpo;
pub mod smpo;

use crate::error::ConfigError;
use crate::reduction::Reduction;

/// One completion's score under the policy and under the reference (0 where the loss has none), in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    pub(crate) policy: f64,
    pub(crate) reference: f64,
}

impl Score {
    /// log π − log ref.
    pub(crate) fn ratio(&self) -> f64 {
        self.policy - self.reference
    }
}

/// A pair loss at one pair of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PairTerms {
    pub(crate) value: f64,
    /// ∂value/∂(policy score of chosen).
    pub(crate) by_chosen: f64,
    /// ∂value/∂(policy score of rejected).
    pub(crate) by_rejected: f64,
    pub(crate) chosen_reward: f64,
    pub(crate) rejected_reward: f64,
}

/// A loss that compares the two sides of a pair.
pub(crate) trait PairLoss {
    /// How a completion becomes a score.
    fn reduction(&self) -> Reduction;

    /// The loss of one pair.
    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms;
}

/// Weights of the cross-entropy parts in the whole objective.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct SftWeights {
    pub(crate) chosen: f64,
    pub(crate) rejected: f64,
}

/// A field's range check, shared by all losses.
pub(crate) fn require(
    kind: &'static str,
    field: &'static str,
    range: &'static str,
    given: f64,
    holds: bool,
) -> Result<(), ConfigError> {
    if holds && given.is_finite() { Ok(()) } else { Err(ConfigError::OutOfRange { kind, field, range, given }) }
}
