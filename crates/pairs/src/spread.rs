//! A distribution in a few numbers.

use serde::{Deserialize, Serialize};
use smpo_stats::bootstrap::quantile;

/// Number, mean, standard deviation and percentiles of values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of values.
    pub n: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation of the sample, with n − 1.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Percentiles 3, 10, 25, 50, 75, 90 and 97, interpolated linearly, as NumPy's default.
    pub percentiles: [f64; 7],
}

/// The percentiles of a [`Spread`].
pub const PERCENTILES: [f64; 7] = [3.0, 10.0, 25.0, 50.0, 75.0, 90.0, 97.0];

impl Spread {
    /// The spread of finite values; `None` without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (&[min, ..], &[.., max]) = (&values[..], &values[..]) else { return None };
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let std = (squares / (n.max(2) - 1) as f64).sqrt();
        let percentiles = PERCENTILES.map(|percent| quantile(&values, percent / 100.0));
        Some(Spread { n, mean, std, min, max, percentiles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_interpolated() {
        // numpy.percentile([1, 2, 3, 4], [3, 10, 25, 50, 75, 90, 97])
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        let expected = [1.09, 1.3, 1.75, 2.5, 3.25, 3.7, 3.91];
        for (got, expected) in spread.percentiles.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
        assert_eq!((spread.n, spread.mean, spread.min, spread.max), (4, 2.5, 1.0, 4.0));
        assert!((spread.std - 1.290_994_448_735_805_6).abs() < 1e-15);
        assert_eq!(Spread::of([7.0]).unwrap().std, 0.0);
        assert_eq!(Spread::of([f64::NAN]), None);
    }
}
