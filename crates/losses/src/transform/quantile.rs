//! Quantiles by selection.

/// The `q` quantile of `values` with linear interpolation between order statistics (Hyndman and Fan's type 7, the
/// default of NumPy and PyTorch). Reorders `values`. Linear time: the lower order statistic is selected, the upper one
/// is the minimum of what selection left to its right. `None` of nothing.
pub fn quantile(values: &mut [f64], q: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor();
    let (_, low, above) = values.select_nth_unstable_by(below as usize, f64::total_cmp);
    let low = *low;
    let high = above.iter().copied().reduce(f64::min).unwrap_or(low);
    Some(low + (position - below) * (high - low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolates_between_order_statistics() {
        // numpy.quantile([3, 1, 4, 1, 5], [0, 0.1, 0.5, 0.9, 1])
        for (q, expected) in [(0.0, 1.0), (0.1, 1.0), (0.5, 3.0), (0.9, 4.6), (1.0, 5.0)] {
            let got = quantile(&mut [3.0, 1.0, 4.0, 1.0, 5.0], q).unwrap();
            assert!((got - expected).abs() < 1e-12, "q {q}: {got}");
        }
        assert_eq!(quantile(&mut [-7.0], 0.02), Some(-7.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
