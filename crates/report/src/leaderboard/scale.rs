//! Axes with round ends.

use smpo_results::{Board, BoardMetric, Unit};

use super::estimate;

/// The range of a metric's axis on one slice: every interval fits, the ends are round. `None` if no entry has a value.
pub(crate) fn of(board: &Board, metric: &BoardMetric, slice: &str) -> Option<[f64; 2]> {
    let mut range: Option<(f64, f64)> = None;
    for entry in &board.entries {
        let Some(e) = estimate(entry, &metric.id, slice) else { continue };
        for value in [e.value, e.ci_low, e.ci_high] {
            if value.is_finite() {
                let (low, high) = range.unwrap_or((value, value));
                range = Some((low.min(value), high.max(value)));
            }
        }
    }
    range.map(|(low, high)| rounded(metric.unit, low, high))
}

fn rounded(unit: Unit, low: f64, high: f64) -> [f64; 2] {
    // an axis narrower than one point would magnify noise
    let least = if unit == Unit::Share { 0.01 } else { 1e-6 };
    let span = (high - low).max(high.abs().max(low.abs()) * 1e-3).max(least);
    let step = nice(span / 4.0);
    let (mut low, mut high) = ((low / step).floor() * step, (high / step).ceil() * step);
    if low == high {
        (low, high) = (low - step, high + step);
    }
    if unit == Unit::Share {
        // a share's axis ends where shares end
        (low, high) = (low.max(0.0), high.min(1.0));
    }
    // floor(0.3 / 0.1) and the like leave rounding errors
    [super::curve::round(low, 8), super::curve::round(high, 8)]
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `step`.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|nice| *nice >= step * 0.999).unwrap_or(10.0 * power)
}

/// Position of a value on an axis, in per cent, clamped to it.
pub(crate) fn position(range: [f64; 2], value: f64) -> f64 {
    let share = (value - range[0]) / (range[1] - range[0]);
    if share.is_finite() { (share * 100.0).clamp(0.0, 100.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_round_and_shares_stay_shares() {
        assert_eq!(rounded(Unit::Share, 0.861, 0.997), [0.85, 1.0]);
        assert_eq!(rounded(Unit::Share, 0.0, 0.172), [0.0, 0.2]);
        assert_eq!(rounded(Unit::Share, 0.0, 0.0), [0.0, 0.005]);
        assert_eq!(rounded(Unit::Nats, -4.2, -0.3), [-5.0, 0.0]);
        assert_eq!(position([0.0, 0.2], 0.05), 25.0);
        assert_eq!(position([0.0, 0.2], f64::NAN), 0.0);
    }
}
