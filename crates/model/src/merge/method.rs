//! Merge methods and their parameters.

use std::path::{Path, PathBuf};

use crate::error::{ModelError, Result};

/// Merge method.
#[derive(Debug, Clone, PartialEq)]
pub enum MergeMethod {
    /// The weighted mean of any number of models (model soups, arXiv 2203.05482).
    Linear {
        /// One weight per model, divided by their sum.
        weights: Vec<f64>,
    },
    /// Along the great circle between two models, tensor by tensor (Shoemake 1985).
    Slerp {
        /// 0 is the first model, 1 the second.
        t: f64,
    },
    /// TIES (arXiv 2306.01708): differences from a base are trimmed, a sign is elected, and those that agree with it are
    /// averaged. Trimming is per tensor.
    Ties {
        /// Base model that the models were tuned from.
        base: PathBuf,
        /// One weight per model.
        weights: Vec<f64>,
        /// Share of each difference that is kept, largest values first, in (0, 1].
        density: f64,
        /// Factor on the merged difference.
        lambda: f64,
    },
}

impl MergeMethod {
    pub(super) fn base(&self) -> Option<&Path> {
        match self {
            Self::Ties { base, .. } => Some(base),
            Self::Linear { .. } | Self::Slerp { .. } => None,
        }
    }

    /// One weight per model.
    ///
    /// # Errors
    /// When the method does not fit the number of models, or a parameter is out of range.
    pub(super) fn checked_weights(&self, models: usize) -> Result<Vec<f64>> {
        let finite = |weights: &[f64]| weights.iter().all(|w| w.is_finite());
        match self {
            Self::Linear { weights } | Self::Ties { weights, .. } if weights.len() != models => {
                Err(ModelError::input("merge weights", format!("{models}, one a model"), weights.len().to_string()))
            }
            Self::Linear { weights } => {
                let sum: f64 = weights.iter().sum();
                if !finite(weights) {
                    return Err(ModelError::input("merge weights", "finite numbers", format!("{weights:?}")));
                }
                if sum.abs() < 1e-12 {
                    return Err(ModelError::input("merge weights", "a sum that is not zero", format!("{weights:?}")));
                }
                Ok(weights.iter().map(|w| w / sum).collect())
            }
            Self::Slerp { t } => {
                if models != 2 {
                    return Err(ModelError::input("models to merge by slerp", "2", models.to_string()));
                }
                if !(0.0..=1.0).contains(t) {
                    return Err(ModelError::input("slerp's t", "a number from 0 to 1", t.to_string()));
                }
                Ok(vec![1.0 - t, *t])
            }
            Self::Ties { weights, density, lambda, .. } => {
                if !(*density > 0.0 && *density <= 1.0) {
                    return Err(ModelError::input("ties density", "a share above 0 and up to 1", density.to_string()));
                }
                if !finite(weights) || weights.iter().any(|w| *w <= 0.0) {
                    return Err(ModelError::input("merge weights", "numbers above zero", format!("{weights:?}")));
                }
                if !lambda.is_finite() {
                    return Err(ModelError::input("ties lambda", "a number", lambda.to_string()));
                }
                Ok(weights.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        let refusal = |method: MergeMethod, models| method.checked_weights(models).unwrap_err().to_string();
        assert_eq!(
            refusal(MergeMethod::Linear { weights: vec![1.0] }, 2),
            "merge weights: expected 2, one a model, got 1"
        );
        assert!(refusal(MergeMethod::Linear { weights: vec![1.0, -1.0] }, 2).contains("a sum that is not zero"));
        assert!(refusal(MergeMethod::Slerp { t: 0.5 }, 3).contains("expected 2, got 3"));
        assert!(refusal(MergeMethod::Slerp { t: f64::NAN }, 2).contains("slerp's t"));
        let ties =
            |density, weight, lambda| MergeMethod::Ties { base: "b".into(), weights: vec![weight], density, lambda };
        assert!(refusal(ties(0.0, 1.0, 1.0), 1).contains("ties density"));
        assert!(refusal(ties(0.5, 0.0, 1.0), 1).contains("above zero"));
        assert!(refusal(ties(0.5, 1.0, f64::INFINITY), 1).contains("ties lambda"));
    }
}
