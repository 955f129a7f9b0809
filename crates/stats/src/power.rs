//! Planning: the power of a paired comparison, and the prompts it needs. `alpha` is one-sided everywhere (a
//! two-sided test at 5 % has `alpha` = 0.025). Normal approximations, save for [`tango_power`]: with a handful
//! of discordant pairs they are far too optimistic (a nominal 80 % is 62 % for a margin of 2 points at 2 %
//! discordance).

use crate::StatsError;
use crate::binary::{tango_variance, tango_z};
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
    Ok(if spread > 0.0 { normal_cdf(lead / spread) } else { f64::from(u8::from(lead > 0.0)) })
}

/// Smallest difference of shares that McNemar's test finds on `n` prompts with this power, when a share `discordant` of
/// them differs without it: [`mcnemar_n`] solved for the difference. `None` if no difference is found so often.
pub fn mcnemar_detectable(discordant: f64, n: usize, alpha: f64, power: f64) -> Result<Option<f64>, StatsError> {
    check_share("discordant", discordant)?;
    check_level("power", power)?;
    let found = |difference: f64| {
        // A difference makes at least as many prompts differ.
        let sum = discordant.max(difference);
        mcnemar_power(0.5 * (sum - difference), 0.5 * (sum + difference), n, alpha)
    };
    if found(1.0)? < power {
        return Ok(None);
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if found(middle)? < power { low = middle } else { high = middle }
    }
    Ok(Some(high))
}

/// Smallest distance from a line that is found with this power, with a standard error already known.
pub fn line_detectable(standard_error: f64, alpha: f64, power: f64) -> Result<f64, StatsError> {
    check_level("alpha", alpha)?;
    check_level("power", power)?;
    Ok((normal_quantile(1.0 - alpha) + normal_quantile(power)) * standard_error)
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

/// Up to this many expected discordant pairs the power is summed over all tables.
const SUM_UP_TO: f64 = 150.0;

/// Power to show, by Tango's score test with `n` prompts, that the second arm's share is not below the first's by
/// `margin`, when prompts are one only in the first (second) arm with these probabilities. Exact, over all tables,
/// while few discordant pairs are expected; the normal approximation to the score beyond.
pub fn tango_power(
    p_first_only: f64,
    p_second_only: f64,
    margin: f64,
    n: usize,
    alpha: f64,
) -> Result<f64, StatsError> {
    discordance(p_first_only, p_second_only)?;
    check_level("alpha", alpha)?;
    check_share("margin", margin)?;
    if n == 0 {
        return Err(StatsError::TooFew { what: "power", expected: 1, got: 0 });
    }
    let (z, prompts) = (normal_quantile(1.0 - alpha), n as f64);
    let shown = |b: u64, c: u64| tango_z(b as f64, c as f64, prompts, -margin) > z;
    let discordant = p_first_only + p_second_only;
    if discordant == 0.0 {
        return Ok(f64::from(u8::from(shown(0, 0))));
    }
    if discordant * prompts > SUM_UP_TO {
        // The observed difference has this error at the truth; the score divides by its error on the margin.
        let difference = p_second_only - p_first_only;
        let error = ((discordant - difference * difference) / prompts).sqrt();
        let on_margin = tango_variance(p_first_only * prompts, p_second_only * prompts, prompts, -margin).sqrt();
        let lead = difference + margin - z * on_margin / prompts;
        return Ok(if error > 0.0 { normal_cdf(lead / error) } else { f64::from(u8::from(lead > 0.0)) });
    }
    let mut power = 0.0;
    let mut weight_d = Tally::new(n as u64, discordant);
    for d in 0..=n as u64 {
        let weight = weight_d.next();
        if weight < 1e-12 {
            if d as f64 > discordant * prompts {
                break;
            }
            continue;
        }
        // More losses only lower the score: the shown tables come first.
        let mut split = Tally::new(d, p_first_only / discordant);
        for b in 0..=d {
            if !shown(b, d - b) {
                break;
            }
            power += weight * split.next();
        }
    }
    Ok(power.min(1.0))
}

/// Prompts needed for that power at `power`, between 2 and 10 million; the sawtooth of small counts is crossed for
/// good at the n returned or shortly after. `None` when no such n reaches it: the truth is on the margin or beyond.
pub fn tango_n(
    p_first_only: f64,
    p_second_only: f64,
    margin: f64,
    alpha: f64,
    power: f64,
) -> Result<Option<usize>, StatsError> {
    check_level("power", power)?;
    const MOST: usize = 10_000_000;
    let enough =
        |n: usize| Ok::<bool, StatsError>(tango_power(p_first_only, p_second_only, margin, n, alpha)? >= power);
    if p_second_only - p_first_only <= -margin {
        return Ok(None);
    }
    let mut high = 2;
    while !enough(high)? {
        if high >= MOST {
            return Ok(None);
        }
        high = (high * 2).min(MOST);
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if enough(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(Some(high))
}

/// Binomial probabilities of 0, 1, 2… n in turn.
struct Tally {
    n: u64,
    k: u64,
    ln_p: f64,
    ln_odds: f64,
    certain: Option<u64>,
}

impl Tally {
    fn new(n: u64, p: f64) -> Tally {
        let certain = (p >= 1.0).then_some(n);
        Tally { n, k: 0, ln_p: n as f64 * (-p).ln_1p(), ln_odds: p.ln() - (-p).ln_1p(), certain }
    }

    fn next(&mut self) -> f64 {
        let k = self.k;
        let ln_p = self.ln_p;
        self.k += 1;
        if let Some(value) = self.certain {
            return f64::from(u8::from(k == value));
        }
        self.ln_p += ((self.n - k) as f64 / (k + 1) as f64).ln() + self.ln_odds;
        ln_p.exp()
    }
}
