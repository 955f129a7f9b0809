//! Share of answers without visible text.
//!
//! White space, control characters and characters without width or ink are not visible. Reasoning is no answer, be it
//! inline or in a field of its own: a completion that only reasons is empty, like one that was cut while it did.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::sample::share;
use crate::text::visible::is_visible;

/// `empty_rate`.
pub static INFO: MetricInfo = MetricInfo {
    id: "empty_rate",
    name: "Empty answers",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: true,
    binary: true,
    leaderboard: None,
    summary: true,
    description: "share of answers without any visible text: nothing, white space, control and zero-width characters, or \
                  reasoning alone",
    reference: "smpo",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric::of_sample(&INFO, measure)];

/// 1 if nothing of the answer can be seen.
fn measure(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    Some(share(!is_visible(view.answer)))
}

#[cfg(test)]
mod tests {
    use crate::sample::{sample, value};

    #[test]
    fn only_what_a_reader_sees_is_an_answer() {
        for (completion, expected) in [
            ("", 1.0),
            (" \n\u{200b}\u{feff}", 1.0),
            ("<think>two and two", 1.0),
            ("<think>two and two</think>\n", 1.0),
            ("<think>two and two</think>4", 0.0),
            (".", 0.0),
            ("\u{fffd}", 0.0),
        ] {
            assert_eq!(value("empty_rate", &sample(completion)), Some(expected), "{completion:?}");
        }
        let mut reasoning = sample("");
        reasoning.reasoning = Some("a long thought".into());
        assert_eq!(value("empty_rate", &reasoning), Some(1.0));
    }
}
