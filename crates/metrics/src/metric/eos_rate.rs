//! Share of completions that end in a terminator.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::sample::share;

/// `eos_rate`.
pub static INFO: MetricInfo = MetricInfo {
    id: "eos_rate",
    name: "EOS rate",
    unit: Unit::Share,
    better: Direction::Higher,
    primary: true,
    binary: true,
    leaderboard: None,
    summary: true,
    description: "share of completions that the model ended itself, with any terminator of its full set, before the cap",
    reference: "full terminator set: huggingface/trl PR 7039",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric { of_ends: true, ..Metric::of_sample(&INFO, measure) }];

/// 1 if the model emitted a terminator, 0 if it ran into the cap or a repetition detector cut it. A stop string or an unknown finish has no value: it
/// is no property of the model.
fn measure(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    view.sample.finish_reason.ended().map(share)
}

#[cfg(test)]
mod tests {
    use smpo_results::FinishReason;

    #[test]
    fn only_what_is_known_counts() {
        for (finish_reason, expected) in [
            (FinishReason::Eos, Some(1.0)),
            (FinishReason::Length, Some(0.0)),
            (FinishReason::Repetition, Some(0.0)),
            (FinishReason::Stop, None),
            (FinishReason::Unknown, None),
        ] {
            let sample = smpo_results::Sample { finish_reason, ..crate::sample::sample("text") };
            assert_eq!(crate::sample::value("eos_rate", &sample), expected, "{finish_reason:?}");
        }
    }
}
