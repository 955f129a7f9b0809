//! Adjusted p values for several tests. NaN is treated as 1: a test that could not be computed rejects nothing.

/// Holm's step-down adjustment: controls the chance of any false rejection, whatever the dependence (Holm
/// 1979, Scand J Stat 6:65).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let order = ascending(p);
    let mut adjusted = vec![1.0; p.len()];
    let mut running: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        running = running.max(clean(p[index]) * (p.len() - rank) as f64).min(1.0);
        adjusted[index] = running;
    }
    adjusted
}

/// Benjamini and Hochberg's step-up adjustment: controls the expected share of false rejections among
/// rejections, for independent or positively dependent tests (Benjamini & Hochberg 1995, JRSS B 57:289).
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let order = ascending(p);
    let mut adjusted = vec![1.0; p.len()];
    let mut running: f64 = 1.0;
    for (rank, &index) in order.iter().enumerate().rev() {
        running = running.min(clean(p[index]) * p.len() as f64 / (rank + 1) as f64);
        adjusted[index] = running;
    }
    adjusted
}

fn clean(p: f64) -> f64 {
    if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) }
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| clean(p[a]).total_cmp(&clean(p[b])));
    order
}
