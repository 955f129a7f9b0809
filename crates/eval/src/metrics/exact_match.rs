//! Is the answer to a closed question right?

use smpo_results::{Direction, Unit};

use super::{MetricInfo, SampleMetric, Scratch, View, share};

/// What it declares.
pub static INFO: MetricInfo = MetricInfo {
    id: "exact_match",
    unit: Unit::Share,
    better: Direction::Higher,
    primary: false,
    binary: true,
    description: "share of completions of closed prompts that are exactly the gold answer, outer white space aside",
    reference: "Rajpurkar et al. 2016, SQuAD, arXiv 1606.05250 (without its normalisation)",
};

/// 1 where the completion of a closed prompt is the gold answer.
pub struct ExactMatch;

impl SampleMetric for ExactMatch {
    fn info(&self) -> &'static MetricInfo {
        &INFO
    }

    fn measure(&self, view: &View<'_>, _: &mut Scratch) -> Option<f64> {
        let gold = gold(view)?;
        Some(share(view.sample.completion.trim() == gold))
    }
}

/// The gold answer of a closed prompt.
pub(super) fn gold<'a>(view: &View<'a>) -> Option<&'a str> {
    let gold = view.sample.reference.as_deref().map(str::trim)?;
    (view.sample.closed && !gold.is_empty()).then_some(gold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_a_closed_prompt_and_the_whole_answer() {
        let mut sample = super::super::sample(" Paris\n");
        assert_eq!(super::super::value(&ExactMatch, &sample), None);
        sample.reference = Some("Paris".into());
        assert_eq!(super::super::value(&ExactMatch, &sample), None, "an open prompt with a gold answer");
        sample.closed = true;
        assert_eq!(super::super::value(&ExactMatch, &sample), Some(1.0));
        sample.completion.push_str("is the capital");
        assert_eq!(super::super::value(&ExactMatch, &sample), Some(0.0));
    }
}
