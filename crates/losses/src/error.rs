//! Errors of configurations and batches.

use crate::batch::{ROUNDING_ABOVE_ZERO, Side};

/// An invalid configuration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A number outside its range.
    #[error("loss `{kind}`: `{field}` must be {range}, got {given}")]
    OutOfRange {
        /// The loss.
        kind: &'static str,
        /// The key.
        field: &'static str,
        /// The allowed range, in words.
        range: &'static str,
        /// The value given.
        given: f64,
    },
    /// A key without effect beside the others.
    #[error("loss `{kind}`: `{field}` has no effect {because}; remove it")]
    NoEffect {
        /// The loss.
        kind: &'static str,
        /// The key.
        field: &'static str,
        /// Reason, in words.
        because: &'static str,
    },
    /// A value that does not go with the others.
    #[error("loss `{kind}`: `{field}`: expected {expected}, got {got}")]
    Mismatch {
        /// The loss.
        kind: &'static str,
        /// The key.
        field: String,
        /// Description of a value that fits.
        expected: String,
        /// The value given.
        got: String,
    },
    /// A schedule of a key that takes none.
    #[error("loss `{kind}`: a schedule gives a value that does not fit: {message}; only numbers can have one")]
    Schedule {
        /// The loss.
        kind: &'static str,
        /// Description, with the key.
        message: String,
    },
    /// A margin for a loss without one.
    #[error("loss `{kind}` has no target margin, got {given}")]
    NoMargin {
        /// The loss.
        kind: &'static str,
        /// The margin.
        given: f64,
    },
}

/// An invalid batch. Indices are from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// No pairs at all.
    #[error("the batch is empty: expected at least one pair, got 0")]
    Empty,
    /// A side without tokens: its mean would be NaN.
    #[error("pair {pair}: {side} is empty: expected at least one completion token, got 0")]
    EmptySide {
        /// Index of the pair.
        pair: usize,
        /// The side.
        side: Side,
    },
    /// Slices of different lengths.
    #[error("pair {pair}: {side}: `{field}` has {got} entries, expected {expected}, one per log-prob")]
    Length {
        /// Index of the pair.
        pair: usize,
        /// The side.
        side: Side,
        /// The slice.
        field: &'static str,
        /// Number of log-probs.
        expected: usize,
        /// Its length.
        got: usize,
    },
    /// A log-prob that is positive or not finite.
    #[error(
        "pair {pair}: {side}: `{field}`[{token}]: expected a finite log-prob of at most 0 \
         (rounding up to {ROUNDING_ABOVE_ZERO} is accepted), got {given}"
    )]
    LogProb {
        /// Index of the pair.
        pair: usize,
        /// The side.
        side: Side,
        /// The slice.
        field: &'static str,
        /// Index of the token.
        token: usize,
        /// The value.
        given: f64,
    },
    /// Reference log-probs are missing.
    #[error("pair {pair}: {side}: this loss needs `ref_logps`, the reference model's log-probs, and got none")]
    NoReference {
        /// Index of the pair.
        pair: usize,
        /// The side.
        side: Side,
    },
    /// An entropy that is negative or not finite.
    #[error(
        "pair {pair}: {side}: `{field}`[{token}]: expected a finite entropy of at least 0 \
         (rounding down to -{ROUNDING_ABOVE_ZERO} is accepted), got {given}"
    )]
    Entropy {
        /// Index of the pair.
        pair: usize,
        /// The side.
        side: Side,
        /// The slice.
        field: &'static str,
        /// Index of the token.
        token: usize,
        /// The value.
        given: f64,
    },
    /// Entropies are missing.
    #[error(
        "pair {pair}: {side}: this loss needs `{field}`, a number of the whole distribution at each token, and got none"
    )]
    NoEntropy {
        /// Index of the pair.
        pair: usize,
        /// The side.
        side: Side,
        /// The slice.
        field: &'static str,
    },
    /// An invalid completion of a group; its error names it as the chosen side of a pair.
    #[error("completion {member} of a group: {source}")]
    Member {
        /// Its index in the group.
        member: usize,
        /// Its error.
        source: Box<BatchError>,
    },
    /// A reward that is not finite.
    #[error("pair {pair}: completion {member} of the group: expected a finite reward, got {given}")]
    Reward {
        /// Index of the group.
        pair: usize,
        /// Index of the completion in the group.
        member: usize,
        /// The value.
        given: f64,
    },
    /// Values of a head with another number of labels than the loss is of.
    #[error("pair {pair}: {side}: expected {expected} values, one for each label, got {got}")]
    Values {
        /// Index of the pair.
        pair: usize,
        /// The side.
        side: Side,
        /// Number of labels.
        expected: usize,
        /// Number of values.
        got: usize,
    },
    /// Labels that the loss is not of.
    #[error("row {pair}: expected {expected}, got {got}")]
    Labels {
        /// Index of the row.
        pair: usize,
        /// Description of labels that fit.
        expected: String,
        /// Labels given.
        got: String,
    },
    /// A value of a head that is not finite.
    #[error("pair {pair}: {side}: expected finite values of the head, got {given}")]
    NotFinite {
        /// Index of the pair.
        pair: usize,
        /// The side.
        side: Side,
        /// The value.
        given: f64,
    },
    /// The micro-batches do not add up to the batch.
    #[error("micro-batches hold {sum} pairs, expected {pairs}, all pairs of the step")]
    Microbatches {
        /// Sum of the sizes.
        sum: usize,
        /// Number of pairs.
        pairs: usize,
    },
    /// Bounds for another batch.
    #[error("bounds hold for {sum} pairs, expected {pairs}, all pairs of the batch")]
    Bounds {
        /// Sum of their pairs.
        sum: usize,
        /// Number of pairs.
        pairs: usize,
    },
    /// Completions for KTO's KL baseline are missing.
    #[error(
        "loss `kto` with `kl_baseline` = \"mismatched\" needs completions of other prompts, got none; \
         give some, or set `kl_baseline` = \"zero\""
    )]
    NoMismatched,
    /// An invalid mismatched completion; its index is given as that of a pair.
    #[error("among the mismatched completions: {source}")]
    Mismatched {
        /// Its error.
        source: Box<BatchError>,
    },
}

impl BatchError {
    /// The log-prob or value of a head that is not finite, where that is the error: one of a model that has become unstable.
    pub fn not_finite(&self) -> Option<f64> {
        match self {
            Self::LogProb { given, .. } => Some(*given).filter(|given| !given.is_finite()),
            Self::NotFinite { given, .. } => Some(*given),
            Self::Member { source, .. } | Self::Mismatched { source } => source.not_finite(),
            _ => None,
        }
    }
}
