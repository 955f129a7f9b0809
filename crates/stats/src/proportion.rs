//! A share in one arm.

use crate::distribution::{beta_quantile, normal_critical};
use crate::error::check_confidence;
use crate::{Interval, StatsError};

fn check(successes: f64, n: f64, confidence: f64) -> Result<(), StatsError> {
    check_confidence(confidence)?;
    if !(n > 0.0 && n.is_finite()) {
        return Err(StatsError::OutOfRange { what: "n", expected: "at least one observation", got: n });
    }
    if !(0.0..=n).contains(&successes) {
        return Err(StatsError::OutOfRange { what: "successes", expected: "between 0 and n", got: successes });
    }
    Ok(())
}

/// Wilson's score interval (Wilson 1927; recommended by Newcombe 1998, Stat Med 17:857, method 3).
///
/// Counts may be fractional: with `successes` = Σ of values in [0, 1] it is conservative, because such
/// values vary at most as much as zeros and ones with the same mean.
pub fn wilson(successes: f64, n: f64, confidence: f64) -> Result<Interval, StatsError> {
    check(successes, n, confidence)?;
    let z = normal_critical(confidence);
    let (share, z2) = (successes / n, z * z);
    let centre = share + z2 / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // At 0 and n the end is exactly 0 or 1; rounding must not leave 1e-18 there.
    let low = if successes == 0.0 { 0.0 } else { ((centre - half) / scale).max(0.0) };
    let high = if successes == n { 1.0 } else { ((centre + half) / scale).min(1.0) };
    Ok(Interval { low, high })
}

/// Clopper and Pearson's exact interval (Biometrika 1934, 26:404): never below its level, so wider than Wilson's.
pub fn clopper_pearson(successes: u64, n: u64, confidence: f64) -> Result<Interval, StatsError> {
    check(successes as f64, n as f64, confidence)?;
    let tail = 0.5 * (1.0 - confidence);
    let (x, n) = (successes as f64, n as f64);
    let low = if successes == 0 { 0.0 } else { beta_quantile(tail, x, n - x + 1.0) };
    let high = if x == n { 1.0 } else { beta_quantile(1.0 - tail, x + 1.0, n - x) };
    Ok(Interval { low, high })
}

/// Probability that `k` samples drawn without replacement from `n` are all among the `good` ones: C(good, k) / C(n, k),
/// the unbiased estimate of "all of k fresh samples are good" (pass^k: Yao et al. 2024, τ-bench, arXiv:2406.12045).
/// `None` for fewer than `k` samples, or `k` = 0.
pub fn all_of(good: usize, n: usize, k: usize) -> Option<f64> {
    if k == 0 || n < k || good > n {
        return None;
    }
    Some((0..k).map(|i| good.saturating_sub(i) as f64 / (n - i) as f64).product())
}
