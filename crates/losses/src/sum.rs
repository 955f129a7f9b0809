//! Sums in independent lanes: one running sum would wait for each addition before the next.

const LANES: usize = 8;

/// Σ f(v). The order of additions depends on the length alone.
pub(crate) fn sum_of(values: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let blocks = values.chunks_exact(LANES);
    let rest: f64 = blocks.remainder().iter().map(|value| f(*value)).sum();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += f(*value);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// Σ v.
pub(crate) fn sum(values: &[f64]) -> f64 {
    sum_of(values, |value| value)
}
