//! The distributions that tests refer to, thin over `statrs`.

use statrs::distribution::{Beta, Binomial, ContinuousCDF, DiscreteCDF, Normal, StudentsT};

/// Φ(z), the standard normal distribution function.
pub fn normal_cdf(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

/// Φ⁻¹(p). `p` ≤ 0 gives −∞ and `p` ≥ 1 gives +∞.
pub fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p.clamp(0.0, 1.0))
}

/// Two-sided critical value: z with P(|Z| ≤ z) = confidence.
pub fn normal_critical(confidence: f64) -> f64 {
    normal_quantile(0.5 + 0.5 * confidence)
}

/// Student's t distribution function with `df` > 0 degrees of freedom, which may be fractional.
pub fn student_cdf(t: f64, df: f64) -> f64 {
    match StudentsT::new(0.0, 1.0, df) {
        Ok(distribution) => distribution.cdf(t),
        Err(_) => normal_cdf(t), // an infinite df is the normal distribution
    }
}

/// Student's t quantile, 0 < p < 1, by bisection on its distribution function: accurate to about 1e-12 even
/// for one degree of freedom.
pub fn student_quantile(p: f64, df: f64) -> f64 {
    if p == 0.5 {
        return 0.0;
    }
    if p < 0.5 {
        return -student_quantile(1.0 - p, df);
    }
    let (mut low, mut high) = (0.0, 2.0);
    while student_cdf(high, df) < p && high < 1e12 {
        low = high;
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if student_cdf(middle, df) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// P(X ≤ k) for X ~ Binomial(n, ½), the reference of McNemar's test. `n` = 0 gives 1.
pub(crate) fn fair_binomial_cdf(k: u64, n: u64) -> f64 {
    Binomial::new(0.5, n).map_or(1.0, |distribution| distribution.cdf(k))
}

/// P(X = k) for X ~ Binomial(n, ½).
pub(crate) fn fair_binomial_pmf(k: u64, n: u64) -> f64 {
    use statrs::distribution::Discrete;
    Binomial::new(0.5, n).map_or(0.0, |distribution| distribution.pmf(k))
}

/// Quantile of Beta(a, b), by bisection on its distribution function.
pub(crate) fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let Ok(distribution) = Beta::new(a, b) else { return f64::NAN };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if distribution.cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}
