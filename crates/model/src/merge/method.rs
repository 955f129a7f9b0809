//! The arithmetic of merging, on plain numbers.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{ModelError, Result};

/// How models are merged.
#[derive(Debug, Clone, PartialEq)]
pub enum MergeMethod {
    /// The weighted mean of any number of models (model soups, arXiv 2203.05482).
    Linear {
        /// One weight a model, divided by their sum.
        weights: Vec<f64>,
    },
    /// Along the great circle between two models, each tensor for itself (Shoemake 1985).
    Slerp {
        /// 0 is the first model, 1 the second.
        t: f64,
    },
    /// TIES (arXiv 2306.01708): differences from a base are trimmed, a sign is elected, and those that agree with it are
    /// averaged. Trimming is by tensor.
    Ties {
        /// What the models were tuned from.
        base: PathBuf,
        /// One weight a model.
        weights: Vec<f64>,
        /// The share of each difference, largest first, that is kept, in (0, 1].
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

    /// One weight a model, after checking that the method fits so many models and its numbers are in range.
    pub(super) fn checked_weights(&self, models: usize) -> Result<Vec<f64>> {
        let finite = |weights: &[f64]| weights.iter().all(|w| w.is_finite());
        match self {
            Self::Linear { weights } | Self::Ties { weights, .. } if weights.len() != models => {
                Err(ModelError::input("merge weights", format!("{models}, one a model"), weights.len().to_string()))
            }
            Self::Linear { weights } => {
                let sum: f64 = weights.iter().sum();
                if !finite(weights) || sum.abs() < 1e-12 {
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

    /// Merges one tensor: `models` hold the same number of values each, `base` too when the method has one.
    pub(super) fn apply(&self, mut models: Vec<Vec<f32>>, base: Option<Vec<f32>>, weights: &[f64]) -> Vec<f32> {
        match (self, base) {
            (Self::Slerp { t }, _) if models.len() == 2 => slerp(&models[0], &models[1], *t),
            (Self::Ties { density, lambda, .. }, Some(base)) => {
                for model in &mut models {
                    model.par_iter_mut().zip(&base).for_each(|(m, b)| *m -= b);
                    trim(model, *density);
                }
                let merged = agreed_mean(&models, weights);
                base.into_par_iter().zip(merged).map(|(b, m)| (f64::from(b) + lambda * m) as f32).collect()
            }
            _ => mean(&models, weights),
        }
    }
}

/// Σ wᵢ·xᵢ.
fn mean(models: &[Vec<f32>], weights: &[f64]) -> Vec<f32> {
    let count = models.first().map_or(0, Vec::len);
    (0..count)
        .into_par_iter()
        .map(|i| models.iter().zip(weights).map(|(m, w)| w * f64::from(m[i])).sum::<f64>() as f32)
        .collect()
}

/// sin((1−t)θ)/sin θ · a + sin(tθ)/sin θ · b with θ the angle between a and b; a straight line where the angle says
/// nothing.
fn slerp(a: &[f32], b: &[f32], t: f64) -> Vec<f32> {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    let cosine = dot(a, b) / lengths;
    // Nearly parallel, opposite, or of no length: the quotient of sines is then noise.
    let (wa, wb) = if cosine.is_nan() || cosine.abs() >= 0.9995 {
        (1.0 - t, t)
    } else {
        let angle = cosine.acos();
        (((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin())
    };
    a.par_iter().zip(b).map(|(a, b)| (wa * f64::from(*a) + wb * f64::from(*b)) as f32).collect()
}

/// Zeroes all but the `density` share of largest magnitude; at least one value stays, ties go to the earlier one.
fn trim(values: &mut [f32], density: f64) {
    let keep = ((values.len() as f64 * density).round() as usize).clamp(1, values.len().max(1));
    if keep >= values.len() {
        return;
    }
    let mut magnitudes: Vec<f32> = values.iter().map(|v| v.abs()).collect();
    let (larger, threshold, _) = magnitudes.select_nth_unstable_by(keep - 1, |a, b| b.total_cmp(a));
    let threshold = *threshold;
    let mut at_threshold = keep - larger.iter().filter(|m| **m > threshold).count();
    for value in values {
        if value.abs() > threshold {
            continue;
        }
        if value.abs() == threshold && at_threshold > 0 {
            at_threshold -= 1;
        } else {
            *value = 0.0;
        }
    }
}

/// For each place: the sign with more weight behind it, and the weighted mean of the differences that have it.
fn agreed_mean(differences: &[Vec<f32>], weights: &[f64]) -> Vec<f64> {
    let count = differences.first().map_or(0, Vec::len);
    (0..count)
        .into_par_iter()
        .map(|i| {
            let at = || differences.iter().zip(weights).map(|(d, w)| (f64::from(d[i]), *w));
            let elected: f64 = at().map(|(d, w)| w * d).sum();
            let (sum, weight) = at()
                .filter(|(d, _)| d * elected > 0.0)
                .fold((0.0, 0.0), |(sum, weight), (d, w)| (sum + w * d, weight + w));
            if weight > 0.0 { sum / weight } else { 0.0 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_weights_are_divided_by_their_sum() {
        let method = MergeMethod::Linear { weights: vec![1.0, 3.0] };
        let weights = method.checked_weights(2).unwrap();
        assert_eq!(method.apply(vec![vec![0.0, 4.0], vec![8.0, -4.0]], None, &weights), [6.0, -2.0]);
    }

    #[test]
    fn slerp_keeps_the_length_where_a_line_would_cut_the_corner() {
        let half = slerp(&[2.0, 0.0], &[0.0, 2.0], 0.5);
        assert!(half.iter().all(|x| (x - 2f32.sqrt()).abs() < 1e-6), "{half:?}");
        assert_eq!(slerp(&[1.0, 2.0], &[3.0, -4.0], 0.0), [1.0, 2.0]);
        // sin(θ)/sin(θ) is 1 to rounding only.
        let end = slerp(&[1.0, 2.0], &[3.0, -4.0], 1.0);
        assert!((end[0] - 3.0).abs() < 1e-6 && (end[1] + 4.0).abs() < 1e-6);
        // No angle: a line.
        assert_eq!(slerp(&[0.0, 0.0], &[2.0, 4.0], 0.5), [1.0, 2.0]);
        assert_eq!(slerp(&[1.0, 1.0], &[3.0, 3.0], 0.5), [2.0, 2.0]);
    }

    #[test]
    fn ties_trims_elects_and_averages_those_that_agree() {
        let mut values = [0.1, -3.0, 2.0, -2.0, 0.5];
        trim(&mut values, 0.4);
        assert_eq!(values, [0.0, -3.0, 2.0, 0.0, 0.0]);
        let mut values = [1.0, 2.0];
        trim(&mut values, 1.0);
        assert_eq!(values, [1.0, 2.0]);
        // First place: +3 outweighs −1, so 3 alone. Second: both agree. Third: they cancel.
        let differences = [vec![3.0, 1.0, 1.0], vec![-1.0, 2.0, -1.0]];
        assert_eq!(agreed_mean(&differences, &[1.0, 1.0]), [3.0, 1.5, 0.0]);
        assert_eq!(agreed_mean(&differences, &[1.0, 4.0]), [-1.0, 9.0 / 5.0, -1.0]);
        let method = MergeMethod::Ties { base: "base".into(), weights: vec![1.0, 1.0], density: 0.5, lambda: 0.5 };
        let merged = method.apply(vec![vec![11.0, 10.0], vec![14.0, 9.0]], Some(vec![10.0, 10.0]), &[1.0, 1.0]);
        // Differences (1, 0) and (4, −1), each trimmed to its larger: (1, 0), (4, 0); mean 2.5, half of it added.
        assert_eq!(merged, [11.25, 10.0]);
    }

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
