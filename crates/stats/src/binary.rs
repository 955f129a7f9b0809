//! One binary outcome per prompt in each of two arms: McNemar's test and intervals for the difference of
//! the paired shares.

use crate::distribution::{fair_binomial_cdf, fair_binomial_pmf, normal_critical};
use crate::error::check_confidence;
use crate::proportion::wilson;
use crate::{Interval, StatsError};

/// Prompts by outcome in the first and the second arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PairedTable {
    /// One in both.
    pub both: u64,
    /// One in the first arm only.
    pub only_first: u64,
    /// One in the second arm only.
    pub only_second: u64,
    /// Zero in both.
    pub neither: u64,
}

impl PairedTable {
    /// Counts pairs `(first, second)`.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut table = PairedTable::default();
        for pair in pairs {
            match pair {
                (true, true) => table.both += 1,
                (true, false) => table.only_first += 1,
                (false, true) => table.only_second += 1,
                (false, false) => table.neither += 1,
            }
        }
        table
    }

    /// Number of prompts.
    pub fn n(&self) -> u64 {
        self.both + self.only_first + self.only_second + self.neither
    }

    /// Share in the second arm minus share in the first; NaN without prompts.
    pub fn difference(&self) -> f64 {
        (self.only_second as f64 - self.only_first as f64) / self.n() as f64
    }
}

/// p values of "both arms have the same share". One-sided ones are mid-p values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    /// Two-sided mid-p value.
    pub mid_p: f64,
    /// Two-sided exact conditional p value.
    pub exact: f64,
    /// One-sided mid-p value against "the second arm is smaller".
    pub second_smaller: f64,
    /// One-sided mid-p value against "the second arm is larger".
    pub second_larger: f64,
}

/// McNemar's test, exact and mid-p (Fagerland, Lydersen, Laake 2013, BMC Med Res Methodol 13:91). With no
/// discordant pair every two-sided p value is 1.
pub fn mcnemar(table: &PairedTable) -> McNemar {
    let (b, c) = (table.only_first, table.only_second);
    let discordant = b + c;
    let one_sided =
        |against: u64| fair_binomial_cdf(against, discordant) - 0.5 * fair_binomial_pmf(against, discordant);
    McNemar {
        // Twice the smaller mid-p tail; 1 on a tie by symmetry.
        mid_p: (2.0 * one_sided(b.min(c))).min(1.0),
        exact: (2.0 * fair_binomial_cdf(b.min(c), discordant)).min(1.0),
        second_smaller: one_sided(c),
        second_larger: one_sided(b),
    }
}

/// Tango's score statistic for "share of the second arm − share of the first = `difference`", approximately
/// standard normal (Tango 1998, Stat Med 17:891; constrained estimate in closed form). Counts may be
/// fractional, see [`tango`].
pub fn tango_z(only_first: f64, only_second: f64, n: f64, difference: f64) -> f64 {
    let numerator = only_second - only_first - n * difference;
    let variance = tango_variance(only_first, only_second, n, difference);
    if variance > 0.0 {
        numerator / variance.sqrt()
    } else if numerator == 0.0 {
        0.0
    } else {
        numerator.signum() * f64::INFINITY
    }
}

/// Variance of (second only − first only) if the difference of the shares is `difference`.
pub(crate) fn tango_variance(only_first: f64, only_second: f64, n: f64, difference: f64) -> f64 {
    let (b, c, delta) = (only_second, only_first, difference);
    // q maximises the likelihood of the discordant cells under the constraint; it estimates P(first only).
    let (qa, qb, qc) = (2.0 * n, -b - c + (2.0 * n - b + c) * delta, -c * delta * (1.0 - delta));
    let q = ((qb * qb - 4.0 * qa * qc).max(0.0).sqrt() - qb) / (2.0 * qa);
    n * (2.0 * q + delta * (1.0 - delta))
}

/// Tango's score interval for (share of the second arm − share of the first): asymptotically right, and
/// sensible with no discordant pair at all.
///
/// `only_first` and `only_second` may be fractional: for values in [0, 1] (means of K samples) take the sum
/// of negative parts and of positive parts of the differences. Such differences vary at most as much as
/// −1/0/1 ones with the same parts, so the interval is conservative, and it equals the usual one for K = 1.
pub fn tango(only_first: f64, only_second: f64, n: f64, confidence: f64) -> Result<Interval, StatsError> {
    check_confidence(confidence)?;
    if !(n > 0.0 && n.is_finite()) {
        return Err(StatsError::OutOfRange { what: "n", expected: "at least one pair", got: n });
    }
    for (what, value) in [("only_first", only_first), ("only_second", only_second)] {
        if !(0.0..=n).contains(&value) {
            return Err(StatsError::OutOfRange { what, expected: "between 0 and n", got: value });
        }
    }
    if only_first + only_second > n * (1.0 + 1e-12) {
        return Err(StatsError::OutOfRange {
            what: "discordant pairs",
            expected: "at most n",
            got: only_first + only_second,
        });
    }
    let z = normal_critical(confidence);
    let estimate = ((only_second - only_first) / n).clamp(-1.0, 1.0);
    // The statistic falls in the difference: above +z left of the lower end, below −z right of the upper end.
    let bisect = |mut inside: f64, mut outside: f64| {
        for _ in 0..64 {
            let middle = 0.5 * (inside + outside);
            if tango_z(only_first, only_second, n, middle).abs() <= z {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        0.5 * (inside + outside)
    };
    Ok(Interval { low: bisect(estimate, -1.0), high: bisect(estimate, 1.0) })
}

/// Newcombe's square-and-add interval for (share of the second arm − share of the first), from Wilson
/// intervals and the corrected correlation (Newcombe 1998, Stat Med 17:2635, method 10).
pub fn newcombe(table: &PairedTable, confidence: f64) -> Result<Interval, StatsError> {
    let n = table.n() as f64;
    let [a, b, c, d] = [table.both, table.only_first, table.only_second, table.neither].map(|count| count as f64);
    let (first, second) = (wilson(a + b, n, confidence)?, wilson(a + c, n, confidence)?);
    let (p1, p2) = ((a + b) / n, (a + c) / n);
    let margins = (a + b) * (c + d) * (a + c) * (b + d);
    let cross = a * d - b * c;
    let corrected = (cross - n / 2.0).max(cross.min(0.0));
    let phi = if margins > 0.0 { corrected / margins.sqrt() } else { 0.0 };
    let add = |u: f64, v: f64| (u * u - 2.0 * phi * u * v + v * v).max(0.0).sqrt();
    let difference = p2 - p1;
    Ok(Interval {
        low: difference - add(p2 - second.low, first.high - p1),
        high: difference + add(second.high - p2, p1 - first.low),
    })
}
