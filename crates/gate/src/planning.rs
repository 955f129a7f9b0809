//! Power of a comparison, and the number of prompts that would settle it.

use smpo_stats::distribution::normal_quantile;
use smpo_stats::power::{line_detectable, line_n, line_power, mcnemar_detectable, mcnemar_n, tango_n, tango_power};

use crate::contrast::Evidence;
use crate::policy::{Policy, Require};

/// Reasons for which no number of prompts can be planned.
const ON_THE_LINE: &str = "the estimate lies on the line, so no number of prompts is promised to settle it";
const SEEDS_DIFFER: &str = "the training seeds differ too much: more seeds are needed, not more prompts";

/// Power to show of equal arms on `n` prompts that they are within a margin above 0; `None` for other requirements.
/// `sign` is −1 for a metric that is better lower, else 1.
pub(crate) fn power(require: Require, evidence: &Evidence, sign: f64, n: usize, policy: &Policy) -> Option<f64> {
    let (margin, sides) = match require {
        Require::NonInferior(margin) if margin > 0.0 => (margin, 1.0),
        Require::Equivalent(margin) => (margin, 2.0),
        _ => return None,
    };
    let one_side = match evidence.discordant {
        Some(discordant) => Discordance::of(discordant, n, sign).power(margin, n, policy.alpha),
        None => line_power(evidence.planning_error, margin, policy.alpha).ok(),
    };
    one_side.map(|power| (1.0 - sides * (1.0 - power)).max(0.0))
}

/// Smallest true harm (for equivalence: change) that `n` prompts show with the policy's power.
pub(crate) fn detectable(require: Require, evidence: &Evidence, sign: f64, n: usize, policy: &Policy) -> Option<f64> {
    let alpha = match require {
        Require::Equivalent(_) => policy.alpha / 2.0,
        _ => policy.alpha,
    };
    match (require, evidence.discordant) {
        (Require::NonInferior(_) | Require::Equivalent(_), Some(discordant)) => {
            let discordant = 2.0 * Discordance::of(discordant, n, sign).half();
            mcnemar_detectable(discordant, n, alpha, policy.power).ok().flatten()
        }
        _ => line_detectable(evidence.planning_error, alpha, policy.power).ok(),
    }
}

/// Prompts that would settle it at the policy's power if the truth is the estimate (for non-inferiority, an estimate on
/// the good side plans for equal arms); an error names the reason for which there is no such number.
pub(crate) fn prompts(
    require: Require,
    evidence: &Evidence,
    sign: f64,
    n: usize,
    policy: &Policy,
) -> Result<usize, &'static str> {
    // In units of gain: positive is better.
    let gain = sign * evidence.estimate;
    let distance = match require {
        Require::NonInferior(margin) => match evidence.discordant {
            Some(discordant) => return Discordance::of(discordant, n, sign).prompts(gain, margin, policy),
            None if gain >= 0.0 => margin,
            None if gain > -margin => gain + margin,
            None => gain,
        },
        Require::Equivalent(margin) => {
            // Both ends at half the risk; beyond the margin, the difference itself at half the alpha.
            let distance = margin - gain.abs();
            let (alpha, power) = if distance > 0.0 {
                (policy.alpha, 0.5 + 0.5 * policy.power)
            } else {
                (0.5 * policy.alpha, policy.power)
            };
            let distance = if distance > 0.0 { distance } else { gain.abs() };
            return over_distance(evidence, n, distance, alpha, power);
        }
        Require::Superior(margin) => gain - margin,
        Require::AtLeast(bound) | Require::AtMost(bound) => evidence.estimate - bound,
    };
    over_distance(evidence, n, distance.abs(), policy.alpha, policy.power)
}

/// Prompts after which an estimate at this distance from the line would be on its side with this power.
fn over_distance(evidence: &Evidence, n: usize, distance: f64, alpha: f64, power: f64) -> Result<usize, &'static str> {
    if distance <= 0.0 {
        return Err(ON_THE_LINE);
    }
    let z = normal_quantile(1.0 - alpha) + normal_quantile(power);
    let left = (distance / z).powi(2) - evidence.seed_variance;
    if left <= 0.0 {
        return Err(SEEDS_DIFFER);
    }
    let per_prompt = (evidence.planning_error.powi(2) - evidence.seed_variance).max(0.0) * n as f64;
    match line_n(per_prompt, z * left.sqrt(), alpha, power) {
        Ok(needed) if needed < 100_000_000 => Ok(needed),
        _ => Err(ON_THE_LINE),
    }
}

/// Shares of prompts on which only one arm is good, with one more such prompt than was seen: no table proves that there
/// are none.
#[derive(Debug, Clone, Copy)]
struct Discordance {
    /// Only the baseline is good.
    lost: f64,
    /// Only the candidate is good.
    won: f64,
}

impl Discordance {
    fn of(discordant: [f64; 2], n: usize, sign: f64) -> Discordance {
        let [baseline_only, candidate_only] = discordant.map(|count| (count + 0.5) / (n as f64 + 2.0));
        if sign > 0.0 {
            Discordance { lost: baseline_only, won: candidate_only }
        } else {
            Discordance { lost: candidate_only, won: baseline_only }
        }
    }

    fn half(self) -> f64 {
        0.5 * (self.lost + self.won)
    }

    /// Power to show non-inferiority if the arms are equal.
    fn power(self, margin: f64, n: usize, alpha: f64) -> Option<f64> {
        tango_power(self.half(), self.half(), margin.min(1.0), n, alpha).ok()
    }

    fn prompts(self, gain: f64, margin: f64, policy: &Policy) -> Result<usize, &'static str> {
        let planned = if gain >= 0.0 {
            tango_n(self.half(), self.half(), margin.min(1.0), policy.alpha, policy.power)
        } else if gain > -margin {
            tango_n(self.lost, self.won, margin.min(1.0), policy.alpha, policy.power)
        } else {
            mcnemar_n(self.lost, self.won, policy.alpha, policy.power).map(Some)
        };
        planned.ok().flatten().ok_or(ON_THE_LINE)
    }
}
