//! From evidence and a demand to one of three answers, with the sentence that says why.

use smpo_results::{Decision, Direction, MetricVerdict, PairCounts, Requirement, Unit};
use smpo_stats::distribution::normal_quantile;
use smpo_stats::power::{line_n, line_power, mcnemar_n, tango_n, tango_power};

use crate::contrast::Evidence;
use crate::policy::{Policy, Require, Role, Rule};

/// A metric's unit and its good direction, as +1 or −1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub unit: Unit,
    pub better: Direction,
}

impl Scale {
    fn sign(self) -> f64 {
        if self.better == Direction::Lower { -1.0 } else { 1.0 }
    }
}

/// The value of the estimate that the alarm's p value is about.
pub(crate) fn alarm_line(require: Require, scale: Scale) -> f64 {
    match require {
        Require::NonInferior(_) => 0.0,
        Require::Superior(margin) => scale.sign() * margin,
        Require::AtLeast(bound) | Require::AtMost(bound) => bound,
    }
}

/// A rule measured but not yet settled: p values still have to be adjusted for each other.
pub(crate) struct Draft {
    /// Everything but the answer.
    pub verdict: MetricVerdict,
    /// One-sided p value of the alarm, not adjusted; none when nothing could be tested.
    pub alarm: Option<f64>,
    /// The interval lies on the right side.
    shown: bool,
    /// The estimate lies on the wrong side of the margin or bound.
    beyond: bool,
    /// Why a pass is not allowed whatever the interval says.
    barred: Option<String>,
    /// What the answer would rest on, in words.
    account: String,
    /// What is wanting for an answer, in words.
    wanting: String,
    /// Fewest prompts that allow a pass.
    min_n: usize,
}

/// A row that was not measured at all.
pub(crate) fn unmeasured(rule: &Rule, policy: &Policy, scale: Scale, n: usize, reason: String) -> Draft {
    // More prompts help only where some were measured.
    let n_needed = (n > 0).then_some(rule.min_n);
    let verdict = MetricVerdict {
        metric: rule.metric.clone(),
        slice: rule.slice.clone(),
        primary: rule.role == Role::Primary,
        requirement: requirement(rule.require),
        margin: rule.require.value(),
        baseline: None,
        candidate: None,
        difference: None,
        ci_low: None,
        ci_high: None,
        level: 1.0 - 2.0 * policy.alpha,
        p: None,
        p_exact: None,
        p_harm: None,
        test: "none".to_owned(),
        adjustment: "none".to_owned(),
        pairs: None,
        verdict: Decision::Inconclusive,
        reason: reason.clone(),
        n,
        power: None,
        n_needed,
        better: direction(rule.require, scale),
        unit: scale.unit,
    };
    Draft {
        verdict,
        alarm: None,
        shown: false,
        beyond: false,
        barred: Some(reason),
        account: String::new(),
        wanting: String::new(),
        min_n: rule.min_n,
    }
}

/// Puts evidence beside the demand.
pub(crate) fn draft(
    rule: &Rule,
    policy: &Policy,
    scale: Scale,
    evidence: &Evidence,
    n: usize,
    barred: Option<String>,
) -> Draft {
    let sign = scale.sign();
    let (low, high) = (evidence.interval.low, evidence.interval.high);
    // In units of gain: positive is better.
    let gain = sign * evidence.estimate;
    let gain_low = if sign > 0.0 { low } else { -high };
    let worse = if sign > 0.0 { evidence.below } else { evidence.above };
    let (shown, beyond, alarm, distance) = match rule.require {
        Require::NonInferior(margin) => {
            let distance = if gain >= 0.0 {
                margin
            } else if gain > -margin {
                gain + margin
            } else {
                -gain
            };
            (gain_low > -margin, gain < -margin, worse, distance)
        }
        Require::Superior(margin) => (gain_low > margin, gain < margin, worse, (gain - margin).abs()),
        Require::AtLeast(bound) => (low >= bound, evidence.estimate < bound, evidence.below, evidence.estimate - bound),
        Require::AtMost(bound) => (high <= bound, evidence.estimate > bound, evidence.above, evidence.estimate - bound),
    };
    let discordance = evidence.pairs.map(|pairs| Discordance::of(pairs, sign));
    let power = match (rule.require, discordance) {
        (Require::NonInferior(margin), Some(found)) if margin > 0.0 => found.power(margin, n, policy.alpha),
        (Require::NonInferior(margin), None) if margin > 0.0 => {
            line_power(evidence.standard_error, margin, policy.alpha).ok()
        }
        _ => None,
    };
    let needed = match (rule.require, discordance) {
        (Require::NonInferior(margin), Some(found)) => found.prompts(gain, margin, policy),
        _ => plan(evidence, n, distance.abs(), policy),
    };
    let (needed, wanting) = match needed {
        Ok(needed) => (Some(needed.max(rule.min_n).max(n + 1)), format!("{n} prompts do not settle it")),
        Err(why) => (None, why.to_owned()),
    };
    let two_armed = evidence.baseline.is_some();
    let verdict = MetricVerdict {
        metric: rule.metric.clone(),
        slice: rule.slice.clone(),
        primary: rule.role == Role::Primary,
        requirement: requirement(rule.require),
        margin: rule.require.value(),
        baseline: evidence.baseline,
        candidate: Some(evidence.candidate),
        difference: two_armed.then_some(evidence.estimate),
        ci_low: Some(low),
        ci_high: Some(high),
        level: 1.0 - 2.0 * policy.alpha,
        p: evidence.p,
        p_exact: evidence.p_exact,
        p_harm: None,
        test: evidence.test.clone(),
        adjustment: "none".to_owned(),
        pairs: evidence.pairs,
        verdict: Decision::Inconclusive,
        reason: String::new(),
        n,
        power,
        n_needed: needed,
        better: direction(rule.require, scale),
        unit: scale.unit,
    };
    let account = account(rule.require, scale.unit, evidence);
    Draft { verdict, alarm: Some(alarm), shown, beyond, barred, account, wanting, min_n: rule.min_n }
}

impl Draft {
    /// The answer, given the alarm's p value after adjustment.
    pub fn settle(mut self, p_harm: Option<f64>, adjustment: &str, alpha: f64) -> MetricVerdict {
        let fails = self.beyond && p_harm.is_some_and(|p| p <= alpha);
        self.verdict.p_harm = p_harm;
        if p_harm.is_some() {
            self.verdict.adjustment = adjustment.to_owned();
        }
        let (decision, reason) = if fails {
            (Decision::Fail, self.account.clone())
        } else if let Some(why) = &self.barred {
            let account = if self.account.is_empty() { String::new() } else { format!("; {}", self.account) };
            (Decision::Inconclusive, format!("{why}{account}"))
        } else if self.shown {
            (Decision::Pass, self.account.clone())
        } else {
            (Decision::Inconclusive, format!("{}; {}", self.account, self.wanting))
        };
        if decision != Decision::Inconclusive {
            self.verdict.n_needed = None;
        } else if self.shown {
            // Only the bar stands in the way: too few prompts, or prompts without a partner.
            self.verdict.n_needed = Some(self.min_n).filter(|min_n| self.verdict.n < *min_n);
        }
        self.verdict.verdict = decision;
        self.verdict.reason = reason;
        self.verdict
    }
}

/// Why no number of prompts can be named.
const ON_THE_LINE: &str = "the estimate lies on the line, so no number of prompts is promised to settle it";
const SEEDS_DIFFER: &str = "the training seeds differ too much: more seeds are needed, not more prompts";

/// Prompts that would settle it at the policy's power if the truth is what it looks like (for non-inferiority,
/// an estimate on the good side plans for equal arms).
fn plan(evidence: &Evidence, n: usize, distance: f64, policy: &Policy) -> Result<usize, &'static str> {
    if distance <= 0.0 {
        return Err(ON_THE_LINE);
    }
    let z = normal_quantile(1.0 - policy.alpha) + normal_quantile(policy.power);
    let left = (distance / z).powi(2) - evidence.seed_variance;
    if left <= 0.0 {
        return Err(SEEDS_DIFFER);
    }
    let per_prompt = (evidence.standard_error.powi(2) - evidence.seed_variance).max(0.0) * n as f64;
    match line_n(per_prompt, z * left.sqrt(), policy.alpha, policy.power) {
        Ok(needed) if needed < 100_000_000 => Ok(needed),
        _ => Err(ON_THE_LINE),
    }
}

/// Shares of prompts on which only one arm is good, with one more such prompt than was seen: no table proves that
/// there are none.
#[derive(Debug, Clone, Copy)]
struct Discordance {
    lost: f64,
    won: f64,
}

impl Discordance {
    fn of(pairs: PairCounts, sign: f64) -> Discordance {
        let n = (pairs.both + pairs.baseline_only + pairs.candidate_only + pairs.neither) as f64;
        let share = |count: usize| (count as f64 + 0.5) / (n + 2.0);
        let (baseline_only, candidate_only) = (share(pairs.baseline_only), share(pairs.candidate_only));
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

fn requirement(require: Require) -> Requirement {
    match require {
        Require::NonInferior(_) => Requirement::NonInferior,
        Require::Superior(_) => Requirement::Superior,
        Require::AtLeast(_) | Require::AtMost(_) => Requirement::Absolute,
    }
}

/// For a bound, the side that it asks for; otherwise the metric's own direction.
fn direction(require: Require, scale: Scale) -> Direction {
    match require {
        Require::AtLeast(_) => Direction::Higher,
        Require::AtMost(_) => Direction::Lower,
        _ => scale.better,
    }
}

fn account(require: Require, unit: Unit, evidence: &Evidence) -> String {
    let relative = evidence.baseline.is_some();
    let say = |value: f64| show(value, unit, relative);
    let demand = match require {
        Require::NonInferior(margin) => format!("may be worse by less than {}", say(margin)),
        Require::Superior(margin) => format!("must be better by more than {}", say(margin)),
        Require::AtLeast(bound) => format!("must be at least {}", say(bound)),
        Require::AtMost(bound) => format!("must be at most {}", say(bound)),
    };
    let what = if relative { "difference" } else { "value" };
    let (low, high) = (say(evidence.interval.low), say(evidence.interval.high));
    let mut text = format!("{demand}: {what} {} [{low}, {high}]", say(evidence.estimate));
    if evidence.moved == 0 && relative {
        text.push_str(", every prompt ties");
    }
    text
}

/// A value with its unit; differences of shares are in points.
fn show(value: f64, unit: Unit, relative: bool) -> String {
    let (number, suffix) = match unit {
        Unit::Share if relative => (format!("{:.2}", 100.0 * value), " points"),
        Unit::Share => (format!("{:.2}", 100.0 * value), " %"),
        Unit::Nats => (format!("{value:.3}"), " nats"),
        Unit::Tokens => (format!("{value:.1}"), " tokens"),
        Unit::Ratio | Unit::Rank => (format!("{value:.3}"), ""),
    };
    // Rounding must not print "-0".
    let zero = number.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.'));
    let number = if zero { number.trim_start_matches('-') } else { &number };
    format!("{number}{suffix}")
}
