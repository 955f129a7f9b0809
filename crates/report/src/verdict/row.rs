//! One metric on one slice, in words and numbers, the same in every format. Strings are on one line and hold no control
//! character; each format still escapes its own markup.

use smpo_results::{Decision, MetricVerdict, Requirement};

use crate::inert::{line, short_line};
use crate::{figure, wording};

/// The printable parts of a [`MetricVerdict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Id of the metric.
    pub id: String,
    /// Id of the slice.
    pub slice_id: String,
    /// Short name of the metric.
    pub metric: String,
    /// Name of the slice.
    pub slice: String,
    /// True for a primary metric, which decides.
    pub primary: bool,
    /// The requirement, with its margin.
    pub requirement: String,
    /// The same requirement as a bound on the difference.
    pub bound: String,
    /// Baseline estimate, or a dash.
    pub baseline: String,
    /// Candidate estimate.
    pub candidate: String,
    /// Candidate − baseline.
    pub difference: String,
    /// Interval of the difference, or of the candidate for an absolute bound.
    pub interval: String,
    /// Two-sided p value of no difference.
    pub p: String,
    /// Names of the test and the interval, with the interval's level.
    pub test: String,
    /// The counts of the paired table; empty if there is none.
    pub pairs: String,
    /// Prompts compared.
    pub n: String,
    /// The decision.
    pub decision: Decision,
    /// The decision's reason.
    pub reason: String,
    /// Power to show equal arms within the margin; empty for a decided metric, of which it says nothing.
    pub power: String,
}

impl Row {
    /// Formats one metric of a verdict.
    pub fn new(metric: &MetricVerdict) -> Row {
        let unit = metric.unit;
        let value = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| figure::value(unit, v));
        let interval = match (metric.ci_low, metric.ci_high) {
            (Some(low), Some(high)) if metric.requirement == Requirement::Absolute => figure::interval(unit, low, high),
            (Some(low), Some(high)) => figure::difference_interval(unit, low, high),
            _ => "–".to_owned(),
        };
        let pairs = metric.pairs.map(|pairs| {
            format!(
                "both {}, baseline only {}, candidate only {}, neither {}",
                pairs.both, pairs.baseline_only, pairs.candidate_only, pairs.neither
            )
        });
        let mut test = short_line(&metric.test, 120);
        if metric.level.is_finite() {
            test.push_str(&format!(", {} % interval", trimmed_percent(metric.level)));
        }
        if let Some(p) = metric.p_equivalence {
            test.push_str(&format!(", equivalence p {}", figure::p_value(p)));
        }
        if let Some(p) = metric.p_harm {
            test.push_str(&format!(", harm p {}", figure::p_value(p)));
            if metric.adjustment != "none" {
                test.push_str(&format!(" ({})", short_line(&metric.adjustment, 20)));
            }
        }
        let open = metric.verdict == Decision::Inconclusive;
        let power = metric.power.filter(|power| open && power.is_finite());
        Row {
            id: short_line(&metric.metric, 120),
            slice_id: short_line(&metric.slice, 120),
            metric: wording::metric(&metric.metric).into_owned(),
            slice: wording::slice(&metric.slice),
            primary: metric.primary,
            requirement: metric.requirement.describe(metric.margin, metric.better, unit),
            bound: wording::bound(metric.requirement, metric.margin, metric.better, unit),
            baseline: value(metric.baseline),
            candidate: value(metric.candidate),
            difference: metric.difference.map_or_else(|| "–".to_owned(), |d| figure::difference(unit, d)),
            interval,
            p: metric.p.map_or_else(|| "–".to_owned(), figure::p_value),
            test,
            pairs: pairs.unwrap_or_default(),
            n: wording::thousands(metric.n),
            decision: metric.verdict,
            reason: short_line(&line(&metric.reason), 600),
            power: power
                .map(|share| format!("power {:.0} % with these prompts if the arms are equal", share * 100.0))
                .unwrap_or_default(),
        }
    }

    /// The decision in one word.
    pub fn word(&self) -> &'static str {
        wording::decision(self.decision)
    }

    /// The decision as a sign without colour.
    pub fn sign(&self) -> &'static str {
        wording::decision_sign(self.decision)
    }

    /// True for a metric with a p value.
    pub(crate) fn has_p(&self) -> bool {
        self.p != "–"
    }

    /// `metric` or `metric · slice`, leaving out the slice of the whole suite.
    pub fn subject(&self) -> String {
        match self.slice.as_str() {
            "all prompts" => self.metric.clone(),
            slice => format!("{} · {slice}", self.metric),
        }
    }
}

/// 0.9 is `90`, 0.975 is `97.5`.
pub(crate) fn trimmed_percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
