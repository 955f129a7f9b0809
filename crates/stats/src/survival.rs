//! Lengths cut by a cap: a completion that reached the cap is right-censored there, so its length is at
//! least the cap, and the bare mean of lengths says nothing.

use crate::distribution::normal_critical;
use crate::error::{check_confidence, check_finite};
use crate::{Interval, StatsError};

/// One length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Length in tokens, positive.
    pub time: f64,
    /// The completion stopped by itself there; `false` when it was cut.
    pub ended: bool,
}

/// The curve at one length at which some completion ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Length in tokens.
    pub time: f64,
    /// Completions still running just before.
    pub at_risk: usize,
    /// Completions that ended there.
    pub ended: usize,
    /// Share still running afterwards.
    pub survival: f64,
    /// Standard error of `survival` (Greenwood 1926).
    pub standard_error: f64,
    /// ended / at_risk: the chance to end here of a completion that got here.
    pub hazard: f64,
}

/// A Kaplan–Meier curve, one [`Step`] per distinct end; the share is 1 before the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Ascending in time.
    pub steps: Vec<Step>,
    /// Longest time seen, ended or cut: the curve says nothing beyond it.
    pub last: f64,
}

/// The restricted mean: the area under the curve up to a horizon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestrictedMean {
    /// Expected length up to the horizon, in tokens.
    pub mean: f64,
    /// Its standard error (Klein & Moeschberger 2003, *Survival Analysis*, eq. 4.5.2).
    pub standard_error: f64,
}

/// Kaplan and Meier's product-limit estimate (JASA 1958, 53:457). A completion cut at t counts as at risk at t.
pub fn kaplan_meier(observations: &[Observation]) -> Result<Curve, StatsError> {
    if observations.is_empty() {
        return Err(StatsError::TooFew { what: "a survival curve", expected: 1, got: 0 });
    }
    let mut sorted = observations.to_vec();
    check_finite("time", &sorted.iter().map(|o| o.time).collect::<Vec<_>>())?;
    sorted.sort_by(|a, b| a.time.total_cmp(&b.time));
    let mut steps: Vec<Step> = Vec::new();
    let (mut survival, mut greenwood) = (1.0, 0.0);
    let mut start = 0;
    while start < sorted.len() {
        let time = sorted[start].time;
        let tied = sorted[start..].iter().take_while(|o| o.time == time);
        let (mut size, mut ended) = (0, 0);
        for observation in tied {
            size += 1;
            ended += usize::from(observation.ended);
        }
        let at_risk = sorted.len() - start;
        if ended > 0 {
            let running = at_risk - ended;
            survival *= running as f64 / at_risk as f64;
            greenwood += ended as f64 / (at_risk as f64 * running as f64);
            // At survival 0, which is the last step, the sum diverges while the error is 0.
            let standard_error = if running > 0 { survival * f64::sqrt(greenwood) } else { 0.0 };
            let hazard = ended as f64 / at_risk as f64;
            steps.push(Step { time, at_risk, ended, survival, standard_error, hazard });
        }
        start += size;
    }
    let last = sorted[sorted.len() - 1].time;
    Ok(Curve { steps, last })
}

impl Curve {
    /// Share still running after `time` tokens.
    pub fn at(&self, time: f64) -> f64 {
        self.steps.iter().take_while(|s| s.time <= time).last().map_or(1.0, |s| s.survival)
    }

    /// Expected length up to `horizon` tokens. Comparable between models only at the same horizon.
    pub fn restricted_mean(&self, horizon: f64) -> RestrictedMean {
        // Areas from each step to the horizon, built backwards: the variance weighs each step by the area behind it.
        let inside: Vec<&Step> = self.steps.iter().filter(|s| s.time < horizon).collect();
        let (mut area, mut variance, mut next) = (0.0, 0.0, horizon);
        for step in inside.iter().rev() {
            area += step.survival * (next - step.time);
            let running = step.at_risk - step.ended;
            if running > 0 {
                variance += area * area * step.ended as f64 / (step.at_risk as f64 * running as f64);
            }
            next = step.time;
        }
        RestrictedMean { mean: area + next.max(0.0), standard_error: variance.sqrt() }
    }

    /// Pointwise interval of the share still running after `time`, on the log(−log) scale, which stays within
    /// 0 and 1 (Kalbfleisch & Prentice 1980; the "log-log" of R's `survfit`). Width 0 before the first step
    /// and at survival 0.
    pub fn interval_at(&self, time: f64, confidence: f64) -> Result<Interval, StatsError> {
        check_confidence(confidence)?;
        let Some(step) = self.steps.iter().take_while(|s| s.time <= time).last() else {
            return Ok(Interval { low: 1.0, high: 1.0 });
        };
        if step.survival <= 0.0 {
            return Ok(Interval { low: 0.0, high: 0.0 });
        }
        let log = step.survival.ln();
        let reach = normal_critical(confidence) * step.standard_error / (step.survival * log.abs());
        Ok(Interval { low: (log * reach.exp()).exp(), high: (log * (-reach).exp()).exp() })
    }
}
