//! Planning: the power of a paired comparison, and the prompts it needs. Normal approximations; `alpha` is
//! one-sided everywhere (a two-sided test at 5 % has `alpha` = 0.025).

use crate::StatsError;
use crate::distribution::{normal_cdf, normal_quantile};
use crate::error::check_share;

fn check_level(what: &'static str, value: f64) -> Result<(), StatsError> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(StatsError::OutOfRange { what, expected: "between 0 and 1, exclusive", got: value })
    }
}

fn check_positive(what: &'static str, value: f64) -> Result<(), StatsError> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(StatsError::OutOfRange { what, expected: "above 0", got: value })
    }
}

/// Prompts as a whole number; a tiny excess over an integer is rounding, not a further prompt.
fn prompts(n: f64) -> usize {
    (n - 1e-9).ceil().max(1.0) as usize
}

/// Prompts needed for McNemar's test to find the difference between discordant shares `p_first_only` and
/// `p_second_only` (Connor 1987, Biometrics 43:207).
pub fn mcnemar_n(p_first_only: f64, p_second_only: f64, alpha: f64, power: f64) -> Result<usize, StatsError> {
    let (discordant, difference) = discordance(p_first_only, p_second_only)?;
    check_level("alpha", alpha)?;
    check_level("power", power)?;
    check_positive("the difference of the discordant shares", difference)?;
    let (za, zb) = (normal_quantile(1.0 - alpha), normal_quantile(power));
    let root = za * discordant.sqrt() + zb * (discordant - difference * difference).sqrt();
    Ok(prompts((root / difference).powi(2)))
}

/// Power of McNemar's test with `n` prompts: [`mcnemar_n`] solved for the power.
pub fn mcnemar_power(p_first_only: f64, p_second_only: f64, n: usize, alpha: f64) -> Result<f64, StatsError> {
    let (discordant, difference) = discordance(p_first_only, p_second_only)?;
    check_level("alpha", alpha)?;
    let spread = (discordant - difference * difference).sqrt();
    let lead = (n as f64).sqrt() * difference - normal_quantile(1.0 - alpha) * discordant.sqrt();
    Ok(if spread > 0.0 { normal_cdf(lead / spread) } else { f64::from(u8::from(lead >= 0.0)) })
}

fn discordance(p_first_only: f64, p_second_only: f64) -> Result<(f64, f64), StatsError> {
    check_share("p_first_only", p_first_only)?;
    check_share("p_second_only", p_second_only)?;
    check_share("p_first_only + p_second_only", p_first_only + p_second_only)?;
    Ok((p_first_only + p_second_only, (p_first_only - p_second_only).abs()))
}

/// Prompts needed to show that a mean difference lies on the right side of a line that is `distance` away
/// from its true value, when single differences have variance `variance`:
/// n = (z₁₋α + z_power)² · variance / distance².
///
/// Non-inferiority of equal arms: `distance` = the margin. For a binary metric `variance` is the share of
/// discordant prompts (minus the squared difference).
pub fn line_n(variance: f64, distance: f64, alpha: f64, power: f64) -> Result<usize, StatsError> {
    check_level("alpha", alpha)?;
    check_level("power", power)?;
    check_positive("distance", distance)?;
    if !(variance >= 0.0 && variance.is_finite()) {
        return Err(StatsError::OutOfRange { what: "variance", expected: "at least 0", got: variance });
    }
    let z = normal_quantile(1.0 - alpha) + normal_quantile(power);
    Ok(prompts(z * z * variance / (distance * distance)))
}

/// Power to show it with a standard error already known: Φ(distance / standard error − z₁₋α).
pub fn line_power(standard_error: f64, distance: f64, alpha: f64) -> Result<f64, StatsError> {
    check_level("alpha", alpha)?;
    if !(standard_error >= 0.0 && standard_error.is_finite()) {
        return Err(StatsError::OutOfRange { what: "standard error", expected: "at least 0", got: standard_error });
    }
    if standard_error == 0.0 {
        return Ok(f64::from(u8::from(distance > 0.0)));
    }
    Ok(normal_cdf(distance / standard_error - normal_quantile(1.0 - alpha)))
}

/// Prompts needed for a paired t test to find a mean difference of `effect` standard deviations: the normal
/// n plus z²₁₋α / 2 (Guenther 1981, Am Stat 35:243), within one prompt of the exact non-central t solution.
pub fn paired_mean_n(effect: f64, alpha: f64, power: f64) -> Result<usize, StatsError> {
    check_level("alpha", alpha)?;
    check_level("power", power)?;
    check_positive("effect", effect.abs())?;
    let (za, zb) = (normal_quantile(1.0 - alpha), normal_quantile(power));
    Ok(prompts(((za + zb) / effect).powi(2) + 0.5 * za * za))
}
