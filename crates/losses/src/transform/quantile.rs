//! Quantiles by selection.

/// Number of values from which sampling is faster than plain selection.
const SAMPLE_FROM: usize = 8192;
const SAMPLE: usize = 512;
/// Ranks past the quantile at which the sample is cut: four of its standard deviations at worst, 4·√(SAMPLE/4).
const SLACK: usize = 46;

/// The `q` quantile of `values` with linear interpolation between order statistics (Hyndman and Fan's type 7, the
/// default of NumPy and PyTorch). Exact, in linear time; leaves `values` in disorder. `None` of nothing.
///
/// A quantile near an end needs few of the values. A sample tells roughly where it lies, one pass keeps what is on its
/// side of a generous cut, and selection has little left to do (after Floyd and Rivest 1975). Should the cut have been
/// too tight, selection runs on everything.
pub fn quantile(values: &mut Vec<f64>, q: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (position.floor() as usize, position.fract());
    let skipped = if values.len() < SAMPLE_FROM { 0 } else { cut(values, q, below) };
    let (_, low, above) = values.select_nth_unstable_by(below - skipped, f64::total_cmp);
    let low = *low;
    let high = above.iter().copied().reduce(f64::min).unwrap_or(low);
    Some(low + part * (high - low))
}

/// Drops values that are neither order statistic `below` nor the next one; returns the number of smaller ones dropped.
fn cut(values: &mut Vec<f64>, q: f64, below: usize) -> usize {
    let mut sample: Vec<f64> = values.iter().copied().step_by(values.len() / SAMPLE).collect();
    let rank = (q * sample.len() as f64) as usize;
    if q < 0.5 {
        let bound = *sample.select_nth_unstable_by(rank + SLACK, f64::total_cmp).1;
        if count(values, |value| value <= bound) > below + 1 {
            keep(values, |value| value <= bound);
        }
        0
    } else {
        let bound = *sample.select_nth_unstable_by(rank.saturating_sub(SLACK), f64::total_cmp).1;
        let smaller = count(values, |value| value < bound);
        if smaller > below {
            return 0;
        }
        keep(values, |value| value >= bound);
        smaller
    }
}

fn count(values: &[f64], holds: impl Fn(f64) -> bool) -> usize {
    values.iter().map(|value| usize::from(holds(*value))).sum()
}

/// `Vec::retain` without a branch on data that no branch predictor can guess.
fn keep(values: &mut Vec<f64>, holds: impl Fn(f64) -> bool) {
    let mut kept = 0;
    for index in 0..values.len() {
        let value = values[index];
        values[kept] = value;
        kept += usize::from(holds(value));
    }
    values.truncate(kept);
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn interpolates_between_order_statistics() {
        // numpy.quantile([3, 1, 4, 1, 5], [0, 0.1, 0.5, 0.9, 1])
        for (q, expected) in [(0.0, 1.0), (0.1, 1.0), (0.5, 3.0), (0.9, 4.6), (1.0, 5.0)] {
            let got = quantile(&mut vec![3.0, 1.0, 4.0, 1.0, 5.0], q).unwrap();
            assert!((got - expected).abs() < 1e-12, "q {q}: {got}");
        }
        assert_eq!(quantile(&mut vec![-7.0], 0.02), Some(-7.0));
        assert_eq!(quantile(&mut vec![], 0.5), None);
    }

    /// By sorting, as a reader would.
    fn sorted_quantile(values: &[f64], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let position = q * (sorted.len() - 1) as f64;
        let low = sorted[position.floor() as usize];
        let high = sorted[position.ceil() as usize];
        low + position.fract() * (high - low)
    }

    #[test]
    fn the_sample_never_changes_the_result() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let tokens = 3 * SAMPLE_FROM + 5;
        let smooth: Vec<f64> = (0..tokens).map(|_| -12.0 * rng.random::<f64>().powi(4)).collect();
        let few_values: Vec<f64> = (0..tokens).map(|_| -f64::from(rng.random_range(0..4u8))).collect();
        let mut sorted = smooth.clone();
        sorted.sort_by(f64::total_cmp);
        // A stride that the sample falls into step with: it sees only the largest values, or only the smallest.
        let stride = tokens / SAMPLE;
        let comb =
            |at: f64, between: f64| (0..tokens).map(move |t| if t % stride == 0 { at } else { between - t as f64 });
        let (high, low): (Vec<_>, Vec<_>) = (comb(0.0, -5.0).collect(), comb(-9e9, -5.0).collect());
        for values in [smooth, few_values, sorted, high, low, vec![-1.0; tokens]] {
            for q in [1e-9, 0.001, 0.02, 0.3, 0.5, 0.7, 0.97, 0.999, 1.0 - 1e-9] {
                assert_eq!(quantile(&mut values.clone(), q), Some(sorted_quantile(&values, q)), "q {q}");
            }
        }
    }

    /// All of the sample is one value, which a quantile lies between and the next: a cut there would lose that one.
    #[test]
    fn the_value_after_the_quantile_is_kept_too() {
        for tokens in [SAMPLE_FROM, 3 * SAMPLE_FROM + 5] {
            let stride = tokens / SAMPLE;
            let values: Vec<f64> = (0..tokens).map(|t| if t % stride == 0 { -9e9 } else { -5.0 - t as f64 }).collect();
            let sampled = tokens.div_ceil(stride);
            let q = (sampled as f64 - 0.5) / (tokens - 1) as f64;
            let got = quantile(&mut values.clone(), q).unwrap();
            assert_eq!(got, sorted_quantile(&values, q));
            assert!(-9e9 < got && got < -5.0, "between the two: {got}");
        }
    }
}
