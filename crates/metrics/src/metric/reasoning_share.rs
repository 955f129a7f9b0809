//! Share of a completion that is reasoning.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo, Scratch, View};

/// `reasoning_share`.
pub static INFO: MetricInfo = MetricInfo {
    id: "reasoning_share",
    name: "Reasoning",
    unit: Unit::Share,
    better: Direction::Neither,
    primary: false,
    binary: false,
    leaderboard: None,
    summary: false,
    description: "share of a completion's characters that are reasoning, inline or in a field of its own; completions \
                  without reasoning have no value",
    reference: "smpo",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric::of_sample(&INFO, measure)];

/// Characters that are not of the answer over all characters.
fn measure(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    let has_field = view.sample.reasoning.as_ref().is_some_and(|reasoning| !reasoning.is_empty());
    if !has_field && view.answer.len() == view.text.len() {
        return None;
    }
    let (all, answer) = (view.text.chars().count(), view.answer.chars().count());
    (all > 0).then(|| (all - answer.min(all)) as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use crate::sample::{sample, value};

    #[test]
    fn inline_and_separate_reasoning_count_alike() {
        assert_eq!(value("reasoning_share", &sample("four")), None);
        assert_eq!(value("reasoning_share", &sample("<think>ok</think>four five")), Some(17.0 / 26.0));
        let mut separate = sample("four");
        separate.reasoning = Some("two, two".into());
        assert_eq!(value("reasoning_share", &separate), Some(10.0 / 14.0));
        separate.completion.clear();
        assert_eq!(value("reasoning_share", &separate), Some(1.0));
    }
}
