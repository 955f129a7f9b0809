//! The paired bootstrap over prompts: resample prompts with replacement, recompute mean differences, and read
//! off a bias-corrected, accelerated interval (Efron 1987, JASA 82:171; Efron & Tibshirani 1993, ch. 14).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::distribution::{normal_cdf, normal_critical, normal_quantile, student_quantile};
use crate::error::{check_confidence, check_finite};
use crate::{Interval, StatsError};

/// Keeps this generator's streams apart from other users of the same seed.
const DOMAIN: u64 = 0x626f_6f74_7374_7261;

/// Columns summed side by side, so that one drawn index serves eight metrics from one cache line.
const LANES: usize = 8;

/// Indices drawn at a time.
const BATCH: usize = 512;

/// Bootstrap means: `result[column][resample]`, for columns of `n` ≥ 2 values each, one value per prompt.
/// All columns share the drawn prompts, so their replicates are jointly distributed like the data.
///
/// Indices come from a 32-bit multiply-shift; its bias is below n / 2³².
pub fn means(columns: &[&[f64]], resamples: usize, seed: u64) -> Result<Vec<Vec<f64>>, StatsError> {
    let Some(first) = columns.first() else { return Ok(Vec::new()) };
    let n = first.len();
    if n < 2 {
        return Err(StatsError::TooFew { what: "the bootstrap", expected: 2, got: n });
    }
    if n > u32::MAX as usize {
        return Err(StatsError::OutOfRange { what: "n", expected: "below 2^32", got: n as f64 });
    }
    for column in columns {
        if column.len() != n {
            return Err(StatsError::Unequal { what: "columns", expected: n, got: column.len() });
        }
        check_finite("values", column)?;
    }
    let generator = ChaCha8Rng::seed_from_u64(seed ^ DOMAIN);
    let mut result = Vec::with_capacity(columns.len());
    for group in columns.chunks(LANES) {
        let mut rows = vec![[0.0; LANES]; n];
        for (lane, column) in group.iter().enumerate() {
            for (row, &value) in rows.iter_mut().zip(*column) {
                row[lane] = value;
            }
        }
        let replicates: Vec<[f64; LANES]> = (0..resamples)
            .into_par_iter()
            .map(|resample| {
                let mut stream = generator.clone();
                stream.set_stream(resample as u64);
                resampled_sum(&rows, &mut stream).map(|sum| sum / n as f64)
            })
            .collect();
        for lane in 0..group.len() {
            result.push(replicates.iter().map(|means| means[lane]).collect());
        }
    }
    Ok(result)
}

fn resampled_sum(rows: &[[f64; LANES]], stream: &mut ChaCha8Rng) -> [f64; LANES] {
    let n = rows.len() as u64;
    let mut buffer = [0u32; BATCH];
    // Two running sums hide the latency of the additions; their order is fixed, so bytes are too.
    let mut sums = [[0.0; LANES]; 2];
    let mut left = rows.len();
    while left > 0 {
        let batch = left.min(BATCH);
        stream.fill(&mut buffer[..batch]);
        for (k, &draw) in buffer[..batch].iter().enumerate() {
            let row = &rows[((u64::from(draw) * n) >> 32) as usize];
            let sum = &mut sums[k & 1];
            for lane in 0..LANES {
                sum[lane] += row[lane];
            }
        }
        left -= batch;
    }
    std::array::from_fn(|lane| sums[0][lane] + sums[1][lane])
}

/// The acceleration of a mean: a sixth of the skewness of its influence values (Efron 1987, eq. 6.6). 0 when
/// all values are equal.
pub fn acceleration(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let (mut square, mut cube) = (0.0, 0.0);
    for value in values {
        let u = value - mean;
        square += u * u;
        cube += u * u * u;
    }
    if square > 0.0 { cube / (6.0 * square.powf(1.5)) } else { 0.0 }
}

/// Tail quantiles of a percentile interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Normal quantiles, as published and as SciPy and R do it.
    Normal,
    /// Student's quantile with n − 1 degrees of freedom, and the factor √(n/(n−1)) that the bootstrap's
    /// variance lacks: an interval for small n (Hesterberg 2015, Am Stat 69:371, "expanded percentile").
    Expanded {
        /// Number of prompts, at least 2.
        n: usize,
    },
}

impl Reach {
    fn critical(self, confidence: f64) -> f64 {
        match self {
            Reach::Normal => normal_critical(confidence),
            Reach::Expanded { n } => {
                let df = n.saturating_sub(1).max(1) as f64;
                ((df + 1.0) / df).sqrt() * student_quantile(0.5 + 0.5 * confidence, df)
            }
        }
    }
}

/// Bias-corrected and accelerated interval of `estimate` from bootstrap replicates. Equal replicates give an
/// interval of width 0: the data hold no information on spread.
pub fn bca(
    estimate: f64,
    replicates: &[f64],
    acceleration: f64,
    confidence: f64,
    reach: Reach,
) -> Result<Interval, StatsError> {
    check_confidence(confidence)?;
    check_finite("replicates", replicates)?;
    check_finite("estimate", &[estimate, acceleration])?;
    if replicates.is_empty() {
        return Err(StatsError::TooFew { what: "a bootstrap interval", expected: 1, got: 0 });
    }
    let mut sorted = replicates.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // Ties count half, as in SciPy: means of few distinct values have many.
    let below = sorted.partition_point(|r| *r < estimate);
    let up_to = sorted.partition_point(|r| *r <= estimate);
    let size = sorted.len() as f64;
    let share = (below + up_to) as f64 / (2.0 * size);
    let bias = normal_quantile(share.clamp(0.5 / size, 1.0 - 0.5 / size));
    let z = reach.critical(confidence);
    let level = |z: f64| {
        let shifted = bias + z;
        let stretch = 1.0 - acceleration * shifted;
        // Past the pole of the transformation the end runs to the extreme on its own side.
        if stretch > 0.0 { normal_cdf(bias + shifted / stretch) } else { normal_cdf(z.signum() * f64::INFINITY) }
    };
    Ok(Interval { low: quantile(&sorted, level(-z)), high: quantile(&sorted, level(z)) })
}

/// Linear interpolation between order statistics (Hyndman & Fan 1996, type 7) of ascending, non-empty values.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let position = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let index = position.floor() as usize;
    let next = (index + 1).min(sorted.len() - 1);
    let (low, high) = (sorted[index], sorted[next]);
    if low == high { low } else { low + (high - low) * (position - index as f64) }
}
