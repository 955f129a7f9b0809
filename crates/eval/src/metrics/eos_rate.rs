//! Does the model end its turn?

use smpo_results::{Direction, FinishReason, Unit};

use super::{MetricInfo, SampleMetric, Scratch, View, share};

/// What it declares.
pub static INFO: MetricInfo = MetricInfo {
    id: "eos_rate",
    unit: Unit::Share,
    better: Direction::Higher,
    primary: true,
    binary: true,
    description: "share of completions that the model ended itself, with any terminator of its full set, before the cap",
    reference: "full terminator set: huggingface/trl PR 7039",
};

/// 1 where the model emitted a terminator, 0 where it ran into the cap. A stop string or an unknown finish says
/// nothing about the model.
pub struct EosRate;

impl SampleMetric for EosRate {
    fn info(&self) -> &'static MetricInfo {
        &INFO
    }

    fn measure(&self, view: &View<'_>, _: &mut Scratch) -> Option<f64> {
        match view.sample.finish_reason {
            FinishReason::Eos => Some(share(true)),
            FinishReason::Length => Some(share(false)),
            FinishReason::Stop | FinishReason::Unknown | FinishReason::Error => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_counts() {
        for (finish_reason, expected) in [
            (FinishReason::Eos, Some(1.0)),
            (FinishReason::Length, Some(0.0)),
            (FinishReason::Stop, None),
            (FinishReason::Unknown, None),
        ] {
            let sample = smpo_results::Sample { finish_reason, ..super::super::sample("text") };
            assert_eq!(super::super::value(&EosRate, &sample), expected, "{finish_reason:?}");
        }
    }
}
