//! A rule with its evidence, and the verdict made of both once p values are adjusted.

use smpo_results::{Decision, Direction, Flips, MetricVerdict, Unit};

use crate::contrast::Evidence;
use crate::policy::{Policy, Require, Role, Rule};
use crate::{finding, planning};

/// A metric's unit and the direction in which it is better.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub unit: Unit,
    pub better: Direction,
}

impl Scale {
    /// −1 for a metric that is better lower, else 1.
    pub fn sign(self) -> f64 {
        if self.better == Direction::Lower { -1.0 } else { 1.0 }
    }

    /// The value of the estimate that the harm's p value tests against.
    pub fn harm_line(self, require: Require) -> f64 {
        match require {
            Require::NonInferior(_) | Require::Equivalent(_) => 0.0,
            Require::Superior(margin) => self.sign() * margin,
            Require::AtLeast(bound) | Require::AtMost(bound) => bound,
        }
    }
}

/// A rule with its evidence, before the p values of the policy's rules are adjusted for each other.
pub(crate) struct Draft<'a> {
    rule: &'a Rule,
    scale: Scale,
    /// One-sided significance level.
    alpha: f64,
    /// Power that needed prompts and detectable effects are for.
    power: f64,
    /// Prompts that every run has.
    n: usize,
    /// Prompts of the slice, with or without a value.
    asked: usize,
    flips: Option<Flips>,
    finding: Finding,
}

/// Evidence against the requirement, where there is any.
#[expect(clippy::large_enum_variant, reason = "one per rule, and most are measured")]
enum Finding {
    /// Too little was measured to analyse.
    NotMeasured {
        reason: String,
    },
    Measured(Assessment),
}

/// Evidence held against the requirement.
struct Assessment {
    evidence: Evidence,
    /// One-sided p value of harm, not adjusted.
    p_harm: f64,
    /// The interval lies on the right side of the margin or bound.
    interval_clears: bool,
    /// The estimate lies on the wrong side of the margin or bound.
    beyond_margin: bool,
    /// Reason for which a pass is not allowed whatever the interval.
    blocked_by: Option<String>,
    /// Power at the margin.
    power: Option<f64>,
    /// Smallest true harm that is shown with the policy's power.
    detectable: Option<f64>,
    /// Prompts that would settle it, or the reason for which no number can be planned.
    planned: Result<usize, &'static str>,
}

impl Assessment {
    /// Compares the evidence on `n` prompts with the requirement.
    fn new(
        require: Require,
        scale: Scale,
        policy: &Policy,
        evidence: Evidence,
        n: usize,
        blocked_by: Option<String>,
    ) -> Assessment {
        let sign = scale.sign();
        let (low, high) = (evidence.interval.low, evidence.interval.high);
        // In units of gain: positive is better.
        let gain = sign * evidence.estimate;
        let gain_low = if sign > 0.0 { low } else { -high };
        let worse = if sign > 0.0 { evidence.below } else { evidence.above };
        let (interval_clears, beyond_margin, p_harm) = match require {
            Require::NonInferior(margin) => (gain_low > -margin, gain < -margin, worse),
            Require::Superior(margin) => (gain_low > margin, gain < margin, worse),
            Require::Equivalent(margin) => (
                low > -margin && high < margin && evidence.p_equivalence.is_some_and(|p| p <= policy.alpha),
                gain.abs() > margin,
                (2.0 * evidence.below.min(evidence.above)).min(1.0),
            ),
            Require::AtLeast(bound) => (low >= bound, evidence.estimate < bound, evidence.below),
            Require::AtMost(bound) => (high <= bound, evidence.estimate > bound, evidence.above),
        };
        let power = planning::power(require, &evidence, sign, n, policy);
        let detectable = planning::detectable(require, &evidence, sign, n, policy);
        let planned = planning::prompts(require, &evidence, sign, n, policy);
        Assessment { evidence, p_harm, interval_clears, beyond_margin, blocked_by, power, detectable, planned }
    }

    /// Decision, given the p value of harm after adjustment.
    fn decision(&self, p_harm: Option<f64>, alpha: f64) -> Decision {
        if self.beyond_margin && p_harm.is_some_and(|p| p <= alpha) {
            Decision::Fail
        } else if self.interval_clears && self.blocked_by.is_none() {
            Decision::Pass
        } else {
            Decision::Inconclusive
        }
    }
}

impl<'a> Draft<'a> {
    /// A rule that too little was measured for.
    pub fn not_measured(rule: &'a Rule, policy: &Policy, scale: Scale, n: usize, reason: String) -> Draft<'a> {
        let finding = Finding::NotMeasured { reason };
        Draft { rule, scale, alpha: policy.alpha, power: policy.power, n, asked: n, flips: None, finding }
    }

    /// A rule with its evidence on `n` of `asked` prompts; `blocked_by` is a reason for which it may not pass.
    pub fn measured(
        rule: &'a Rule,
        policy: &Policy,
        scale: Scale,
        evidence: Evidence,
        [n, asked]: [usize; 2],
        flips: Option<Flips>,
        blocked_by: Option<String>,
    ) -> Draft<'a> {
        let finding = Finding::Measured(Assessment::new(rule.require, scale, policy, evidence, n, blocked_by));
        Draft { rule, scale, alpha: policy.alpha, power: policy.power, n, asked, flips, finding }
    }

    /// True for a rule that decides.
    pub fn primary(&self) -> bool {
        self.rule.role == Role::Primary
    }

    /// One-sided p value of harm, not adjusted; `None` if nothing was tested.
    pub fn p_harm(&self) -> Option<f64> {
        self.assessment().map(|found| found.p_harm)
    }

    fn assessment(&self) -> Option<&Assessment> {
        match &self.finding {
            Finding::NotMeasured { .. } => None,
            Finding::Measured(found) => Some(found),
        }
    }

    /// The verdict, given the p value of harm after `adjustment`.
    pub fn finalize(self, p_harm: Option<f64>, adjustment: &str) -> MetricVerdict {
        let found = self.assessment();
        let evidence = found.map(|found| &found.evidence);
        let decision = found.map_or(Decision::Inconclusive, |found| found.decision(p_harm, self.alpha));
        MetricVerdict {
            metric: self.rule.metric.clone(),
            slice: self.rule.slice.clone(),
            primary: self.primary(),
            requirement: self.rule.require.kind(),
            margin: self.rule.require.value(),
            baseline: evidence.and_then(|found| found.baseline),
            candidate: evidence.map(|found| found.candidate),
            difference: evidence.filter(|found| found.baseline.is_some()).map(|found| found.estimate),
            ci_low: evidence.map(|found| found.interval.low),
            ci_high: evidence.map(|found| found.interval.high),
            level: self.level(),
            p: evidence.and_then(|found| found.p),
            p_exact: evidence.and_then(|found| found.p_exact),
            p_harm,
            p_equivalence: evidence.and_then(|found| found.p_equivalence),
            test: evidence.map_or("none", |found| found.test.as_str()).to_owned(),
            adjustment: p_harm.map_or("none", |_| adjustment).to_owned(),
            pairs: evidence.and_then(|found| found.pairs),
            flips: self.flips.clone(),
            verdict: decision,
            reason: self.reason(decision),
            n: self.n,
            asked: Some(self.asked),
            power: found.and_then(|found| found.power),
            n_needed: self.n_needed(decision),
            detectable: found.and_then(|found| found.detectable),
            better: direction(self.rule.require, self.scale),
            unit: self.scale.unit,
        }
    }

    /// Two-sided confidence of the interval.
    fn level(&self) -> f64 {
        1.0 - 2.0 * self.alpha
    }

    /// The decision's reason: the finding, and for an undecided rule what could have been found and what would settle it.
    fn reason(&self, decision: Decision) -> String {
        let found = match &self.finding {
            Finding::NotMeasured { reason } => {
                return format!("{}: {reason}", finding::subject(&self.rule.metric, &self.rule.slice));
            }
            Finding::Measured(found) => found,
        };
        // A blocked rule's interval may well clear the margin: the finding says so, the block says why that is no pass.
        let shown = if found.interval_clears && decision != Decision::Fail { Decision::Pass } else { decision };
        let sentence = finding::sentence(self.rule, self.scale.unit, &found.evidence, self.level(), shown);
        if decision != Decision::Inconclusive {
            return sentence;
        }
        let mut parts = vec![sentence];
        parts.extend(found.blocked_by.as_ref().map(|block| format!("no pass, because {block}")));
        parts.extend(found.detectable.map(|effect| {
            format!(
                "{} prompts show {} of {} or more with {:.0} % power",
                self.n,
                if found.evidence.baseline.is_some() { "a change" } else { "a distance from the bound" },
                self.scale.unit.quantity(effect, true),
                100.0 * self.power
            )
        }));
        parts.extend(match (self.n_needed(decision), found.planned) {
            (Some(needed), _) if self.n < self.asked => {
                Some(format!("{needed} prompts with a value would settle it, which {} of {} have", self.n, self.asked))
            }
            (Some(needed), _) => Some(format!("{needed} prompts would settle it")),
            (None, Err(no_number)) => Some(no_number.to_owned()),
            (None, Ok(_)) => None,
        });
        parts.join("; ")
    }

    /// Prompts that would allow a decision; `None` once there is one, or if no number can be planned.
    fn n_needed(&self, decision: Decision) -> Option<usize> {
        let min_n = self.rule.min_n;
        match &self.finding {
            // More prompts help only if some were measured.
            Finding::NotMeasured { .. } => (self.n > 0).then_some(min_n),
            Finding::Measured(_) if decision != Decision::Inconclusive => None,
            // Only the block is in the way: too few prompts, or prompts without a partner.
            Finding::Measured(found) if found.interval_clears => Some(min_n).filter(|min_n| self.n < *min_n),
            Finding::Measured(found) => found.planned.ok().map(|needed| needed.max(min_n).max(self.n + 1)),
        }
    }
}

/// The side of an absolute bound; otherwise the metric's own direction.
fn direction(require: Require, scale: Scale) -> Direction {
    match require {
        Require::AtLeast(_) => Direction::Higher,
        Require::AtMost(_) => Direction::Lower,
        Require::NonInferior(_) | Require::Superior(_) | Require::Equivalent(_) => scale.better,
    }
}
