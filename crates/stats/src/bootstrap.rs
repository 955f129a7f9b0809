//! The paired bootstrap over prompts: resample prompts with replacement, recompute mean differences, and read
//! off a bias-corrected, accelerated interval (Efron 1987, JASA 82:171; Efron & Tibshirani 1993, ch. 14).

use std::ops::Range;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::distribution::{normal_cdf, normal_critical, normal_quantile, student_quantile};
use crate::error::{check_confidence, check_finite};
use crate::{Interval, StatsError};

/// Keeps this generator's streams apart from other users of the same seed.
const DOMAIN: u64 = 0x626f_6f74_7374_7261;

/// Columns summed side by side, so that one drawn index serves eight metrics from one cache line.
const LANES: usize = 8;

/// Prompts of a block, whose rows stay in a core's cache while several resamples draw from them.
const BLOCK: usize = 4096;

/// Resamples that go through the blocks side by side.
const TOGETHER: usize = 32;

/// Bootstrap means: `result[column][resample]`, for columns of `n` ≥ 2 values each, one value per prompt.
/// All columns share the drawn prompts, so their replicates are jointly distributed like the data.
///
/// Of more than 4,096 prompts, first the numbers of draws from each block of them are drawn, then the draws of each
/// block: the same distribution. Indices come from a 32-bit multiply-shift; its bias is below n / 2³².
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
            .step_by(TOGETHER)
            .flat_map_iter(|first| resampled_sums(&rows, &generator, first..resamples.min(first + TOGETHER)))
            .map(|sums| sums.map(|sum| sum / n as f64))
            .collect();
        for lane in 0..group.len() {
            result.push(replicates.iter().map(|means| means[lane]).collect());
        }
    }
    Ok(result)
}

/// Sums of resamples by their numbers.
fn resampled_sums(rows: &[[f64; LANES]], generator: &ChaCha8Rng, numbers: Range<usize>) -> Vec<[f64; LANES]> {
    let mut resamples: Vec<_> = numbers.map(|number| Resample::new(generator, number, rows.len())).collect();
    for (block, rows) in rows.chunks(BLOCK).enumerate() {
        for resample in &mut resamples {
            resample.draw(rows, block);
        }
    }
    resamples
        .into_iter()
        .map(|Resample { sums: [even, odd], .. }| std::array::from_fn(|lane| even[lane] + odd[lane]))
        .collect()
}

struct Resample {
    stream: ChaCha8Rng,
    /// Draws from each block.
    draws: Vec<u32>,
    // Two running sums hide the latency of the additions; their order is fixed, so bytes are too.
    sums: [[f64; LANES]; 2],
}

impl Resample {
    /// The one of a number, of so many rows.
    fn new(generator: &ChaCha8Rng, number: usize, rows: usize) -> Self {
        let mut stream = generator.clone();
        stream.set_stream(number as u64);
        let mut draws = vec![0; rows.div_ceil(BLOCK)];
        if let [all] = draws.as_mut_slice() {
            *all = rows as u32;
        } else {
            (0..rows).for_each(|_| draws[index(&mut stream, rows) / BLOCK] += 1);
        }
        Self { stream, draws, sums: [[0.0; LANES]; 2] }
    }

    /// Adds the draws from a block.
    fn draw(&mut self, rows: &[[f64; LANES]], block: usize) {
        let [mut even, mut odd] = self.sums;
        let add = |sum: &mut [f64; LANES], row: &[f64; LANES]| (0..LANES).for_each(|lane| sum[lane] += row[lane]);
        let mut left = self.draws[block];
        while left > 1 {
            add(&mut even, &rows[index(&mut self.stream, rows.len())]);
            add(&mut odd, &rows[index(&mut self.stream, rows.len())]);
            left -= 2;
        }
        if left > 0 {
            add(&mut even, &rows[index(&mut self.stream, rows.len())]);
        }
        self.sums = [even, odd];
    }
}

/// A random index below `n`.
fn index(stream: &mut ChaCha8Rng, n: usize) -> usize {
    ((u64::from(stream.next_u32()) * n as u64) >> 32) as usize
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
