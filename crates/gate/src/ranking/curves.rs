//! How long completions run: the Kaplan–Meier share still running, and the hazard of stopping.

use smpo_results::{CurvePoint, FinishReason, Sample};
use smpo_stats::survival::{Observation, kaplan_meier};

use crate::error::GateError;

/// More points than pixels help nobody.
const SURVIVAL_POINTS: usize = 160;
const HAZARD_BINS: usize = 48;

#[derive(Default)]
pub(super) struct Curves {
    pub survival: Vec<CurvePoint>,
    pub hazard: Vec<CurvePoint>,
}

/// Empty where lengths or the reasons of ending are unknown. Failed completions say nothing about length.
pub(super) fn of(samples: &[Sample]) -> Result<Curves, GateError> {
    let observations: Vec<Observation> = samples
        .iter()
        .filter_map(|sample| {
            let ended = match sample.finish_reason {
                FinishReason::Eos => true,
                FinishReason::Length | FinishReason::Stop => false,
                FinishReason::Error | FinishReason::Unknown => return None,
            };
            Some(Observation { time: f64::from(sample.tokens?), ended })
        })
        .collect();
    if observations.is_empty() {
        return Ok(Curves::default());
    }
    let curve =
        kaplan_meier(&observations).map_err(|source| GateError::Stats { metric: "length".to_owned(), source })?;
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
    Ok(Curves { survival, hazard: hazard(&observations, curve.last) })
}

/// Per token: completions that stopped within a bin, over the tokens at which a completion could have stopped there.
fn hazard(observations: &[Observation], last: f64) -> Vec<CurvePoint> {
    let width = (last / HAZARD_BINS as f64).ceil().max(1.0);
    let bins = (last / width).ceil() as usize;
    let (mut stops, mut chances) = (vec![0.0; bins], vec![0.0; bins]);
    for observation in observations {
        for bin in 0..bins {
            let start = bin as f64 * width;
            if observation.time <= start {
                break;
            }
            chances[bin] += (observation.time - start).min(width);
            if observation.ended && observation.time <= start + width {
                stops[bin] += 1.0;
            }
        }
    }
    (0..bins)
        .filter(|&bin| chances[bin] > 0.0)
        .map(|bin| CurvePoint { t: ((bin + 1) as f64 * width).min(last), y: stops[bin] / chances[bin] })
        .collect()
}
