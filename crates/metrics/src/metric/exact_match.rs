//! Exact match with the gold answer.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::sample::share;

/// `exact_match`.
pub static INFO: MetricInfo = MetricInfo {
    id: "exact_match",
    name: "Exact match",
    unit: Unit::Share,
    better: Direction::Higher,
    primary: false,
    binary: true,
    leaderboard: None,
    summary: true,
    description: "share of answers to closed prompts that are exactly the gold answer, outer white space and reasoning aside",
    reference: "Rajpurkar et al. 2016, SQuAD, arXiv 1606.05250 (without its normalisation)",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric { of_some_prompts: true, ..Metric::of_sample(&INFO, measure) }];

/// 1 if the completion of a closed prompt is the gold answer.
fn measure(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    let gold = gold(view)?;
    Some(share(view.answer.trim() == gold))
}

/// The gold answer of a closed prompt.
pub(super) fn gold<'a>(view: &View<'a>) -> Option<&'a str> {
    let gold = view.sample.reference.as_deref().map(str::trim)?;
    (view.sample.closed && !gold.is_empty()).then_some(gold)
}

#[cfg(test)]
mod tests {
    #[test]
    fn needs_a_closed_prompt_and_the_whole_answer() {
        let mut sample = crate::sample::sample(" Paris\n");
        assert_eq!(crate::sample::value("exact_match", &sample), None);
        sample.reference = Some("Paris".into());
        assert_eq!(crate::sample::value("exact_match", &sample), None, "an open prompt with a gold answer");
        sample.closed = true;
        assert_eq!(crate::sample::value("exact_match", &sample), Some(1.0));
        sample.completion.push_str("is the capital");
        assert_eq!(crate::sample::value("exact_match", &sample), Some(0.0));
    }
}
