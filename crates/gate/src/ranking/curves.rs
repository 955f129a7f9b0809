//! Curves over the length of completions: the Kaplan–Meier survival and the EOS hazard, thinned for drawing.

use smpo_metrics::metric::eos_hazard;
use smpo_metrics::metric::length::{self, Lifetime};
use smpo_results::CurvePoint;

/// Points of a survival curve: more than pixels are not seen.
const SURVIVAL_POINTS: usize = 160;
const HAZARD_BINS: usize = 48;

#[derive(Default)]
pub(super) struct Curves {
    pub survival: Vec<CurvePoint>,
    pub hazard: Vec<CurvePoint>,
}

/// Empty if lengths or finish reasons are unknown. Failed completions have no length.
pub(super) fn of(lifetimes: &[Lifetime]) -> Curves {
    let Some(curve) = length::kaplan_meier(lifetimes.iter().copied()) else { return Curves::default() };
    let mut times: Vec<f64> = curve.steps.iter().map(|step| step.time).collect();
    if times.len() > SURVIVAL_POINTS {
        times = (1..=SURVIVAL_POINTS).map(|i| (curve.last * i as f64 / SURVIVAL_POINTS as f64).round()).collect();
        times.dedup();
    }
    if times.last() != Some(&curve.last) {
        times.push(curve.last);
    }
    let start = CurvePoint { t: 0.0, y: 1.0 };
    let survival = std::iter::once(start).chain(times.iter().map(|&t| CurvePoint { t, y: curve.at(t) })).collect();
    let width = (curve.last / HAZARD_BINS as f64).ceil().max(1.0) as u32;
    Curves { survival, hazard: eos_hazard::curve(lifetimes, width) }
}
