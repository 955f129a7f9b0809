//! The rules that a verdict leaves out, for its headline: metrics without values, and prompts without them.

use smpo_results::{MetricVerdict, NotJudged, SkippedRule};

use crate::finding::subject;

/// Primary metrics and prompts that were not judged, in the policy's order; each subject once.
pub(crate) fn not_judged(metrics: &[MetricVerdict], skipped: &[SkippedRule]) -> Vec<NotJudged> {
    let whole = skipped
        .iter()
        .filter(|rule| rule.primary)
        .map(|rule| NotJudged { subject: subject(&rule.metric, &rule.slice), reason: rule.reason.clone() });
    let in_part = metrics.iter().filter(|metric| metric.primary).filter_map(|metric| {
        let subject = subject(&metric.metric, &metric.slice);
        if metric.candidate.is_none() {
            return Some(NotJudged { subject, reason: metric.reason.clone() });
        }
        let asked = metric.asked.filter(|asked| *asked > metric.n)?;
        let left_out = asked - metric.n;
        Some(NotJudged {
            subject: format!("{subject} on {left_out} of {asked} prompts"),
            reason: "no value in some run: not answered, failed, or ended in an unknown way".to_owned(),
        })
    });
    let mut found: Vec<NotJudged> = Vec::new();
    for part in whole.chain(in_part) {
        if !found.iter().any(|other| other.subject == part.subject) {
            found.push(part);
        }
    }
    found
}
