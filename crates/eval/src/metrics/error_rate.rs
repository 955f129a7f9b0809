//! How often did the engine fail?

use smpo_results::{Direction, FinishReason, Sample, Unit};

use super::{MetricInfo, share};

/// What it declares.
pub static INFO: MetricInfo = MetricInfo {
    id: "error_rate",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: false,
    binary: true,
    description: "share of completions that the engine failed on; they are in no other metric",
    reference: "smpo",
};

/// 1 where the engine failed.
pub fn measure(sample: &Sample) -> f64 {
    share(sample.finish_reason == FinishReason::Error)
}
