//! The rules that a verdict leaves out, for its headline: metrics without values, and prompts without them.

use smpo_results::{MetricVerdict, NotJudged, SkippedRule, manifest};

use crate::finding::subject;
use crate::run::Run;
use crate::shared::ERRORS;

/// Primary metrics and prompts that were not judged, in the policy's order; each subject once.
pub(crate) fn not_judged(
    metrics: &[MetricVerdict],
    skipped: &[SkippedRule],
    [baseline, candidate]: [&[Run]; 2],
) -> Vec<NotJudged> {
    let untold = |metric: &str| untold(metric, baseline, candidate).unwrap_or_default();
    let whole = skipped.iter().filter(|rule| rule.primary).map(|rule| NotJudged {
        subject: format!("{}{}", subject(&rule.metric, &rule.slice), untold(&rule.metric)),
        reason: rule.reason.clone(),
    });
    let in_part = metrics.iter().filter(|metric| metric.primary).filter_map(|metric| {
        let (subject, untold) = (subject(&metric.metric, &metric.slice), untold(&metric.metric));
        if metric.candidate.is_none() {
            // A metric's reason names its subject, as the headline's part does.
            let reason = metric.reason.strip_prefix(&format!("{subject}: ")).unwrap_or(&metric.reason).to_owned();
            return Some(NotJudged { subject: format!("{subject}{untold}"), reason });
        }
        let asked = metric.asked.filter(|asked| *asked > metric.n)?;
        let left_out = asked - metric.n;
        Some(NotJudged {
            subject: format!("{subject} on {left_out} of {asked} prompts{untold}"),
            reason: "no value in some run: not answered, failed, or ended in an unknown way".to_owned(),
        })
    });
    let failed = [("baseline", baseline), ("candidate", candidate)].into_iter().filter_map(|(arm, runs)| {
        let (failed, answers) = runs.iter().map(failed_beside_others).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        (failed > 0).then(|| NotJudged {
            subject: format!("{failed} of {answers} answers of the {arm}"),
            reason: "failed, beside others to the same prompt".to_owned(),
        })
    });
    let mut found: Vec<NotJudged> = Vec::new();
    for part in whole.chain(in_part).chain(failed) {
        if !found.iter().any(|other| other.subject == part.subject) {
            found.push(part);
        }
    }
    found
}

/// Answers that failed though others to the same prompt did not, and all answers. Prompts without any are left out by the
/// rules themselves.
fn failed_beside_others(run: &Run) -> (usize, usize) {
    run.rows(ERRORS).fold((0, 0), |(failed, answers), (_, values)| {
        let here = values.iter().filter(|value| **value > 0.0).count();
        (failed + if here < values.len() { here } else { 0 }, answers + values.len())
    })
}

/// The fact that the metric needs and scored files do not tell: ` (EOS unknown in the candidate's files)`.
fn untold(metric: &str, baseline: &[Run], candidate: &[Run]) -> Option<String> {
    let source = smpo_metrics::pass_k::parse(metric).map_or(metric, |(info, _)| info.id);
    let (fact, name) = match source {
        "eos_rate" | "stops_when_right" => (manifest::FINISH_REASON, "EOS"),
        "length" => (manifest::TOKENS, "length in tokens"),
        "foreign_script" => (manifest::PROMPT, "prompts"),
        _ => return None,
    };
    let lacks = |runs: &[Run]| runs.iter().any(|run| run.manifest.observed.untold.contains_key(fact));
    let whose = match (lacks(baseline), lacks(candidate)) {
        (true, true) => "the files",
        (true, false) => "the baseline's files",
        (false, true) => "the candidate's files",
        (false, false) => return None,
    };
    Some(format!(" ({name} unknown in {whose})"))
}
