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

/// Σ f(v) of an f of many operations: computed block by block in a loop of its own, which the compiler turns into vector
/// instructions.
pub(crate) fn sum_of_long(values: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    const BLOCK: usize = 64;
    let mut total = 0.0;
    for block in values.chunks(BLOCK) {
        let mut results = [0.0; BLOCK];
        for (result, value) in results.iter_mut().zip(block) {
            *result = f(*value);
        }
        total += sum(&results);
    }
    total
}

/// Σ f(v, w) over two slices side by side.
pub(crate) fn sum_of_pairs(values: &[f64], others: &[f64], f: impl Fn(f64, f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (blocks, other_blocks) = (values.chunks_exact(LANES), others.chunks_exact(LANES));
    let rest: f64 = blocks.remainder().iter().zip(other_blocks.remainder()).map(|(v, w)| f(*v, *w)).sum();
    for (block, other) in blocks.zip(other_blocks) {
        for (lane, (v, w)) in lanes.iter_mut().zip(block.iter().zip(other)) {
            *lane += f(*v, *w);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// Σ v.
pub(crate) fn sum(values: &[f64]) -> f64 {
    sum_of(values, |value| value)
}
