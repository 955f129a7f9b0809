//! Errors of the inputs.

/// An invalid input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// Fewer observations than the method needs.
    #[error("{what} needs at least {expected} observations, got {got}")]
    TooFew {
        /// The method.
        what: &'static str,
        /// Smallest number allowed.
        expected: usize,
        /// Number given.
        got: usize,
    },
    /// A number outside its range, NaN included.
    #[error("{what}: expected {expected}, got {got}")]
    OutOfRange {
        /// The argument.
        what: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// The value given.
        got: f64,
    },
    /// Two inputs that must be equally long.
    #[error("{what}: expected {expected} values, got {got}")]
    Unequal {
        /// The argument.
        what: &'static str,
        /// Length of the first.
        expected: usize,
        /// Length of the other.
        got: usize,
    },
}

/// `confidence` must lie strictly between 0 and 1.
pub(crate) fn check_confidence(confidence: f64) -> Result<(), StatsError> {
    if confidence > 0.0 && confidence < 1.0 {
        Ok(())
    } else {
        Err(StatsError::OutOfRange { what: "confidence", expected: "between 0 and 1, exclusive", got: confidence })
    }
}

/// A probability or share.
pub(crate) fn check_share(what: &'static str, value: f64) -> Result<(), StatsError> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(StatsError::OutOfRange { what, expected: "between 0 and 1", got: value })
    }
}

/// Every value must be a finite number.
pub(crate) fn check_finite(what: &'static str, values: &[f64]) -> Result<(), StatsError> {
    match values.iter().find(|v| !v.is_finite()) {
        Some(&got) => Err(StatsError::OutOfRange { what, expected: "a finite number", got }),
        None => Ok(()),
    }
}
