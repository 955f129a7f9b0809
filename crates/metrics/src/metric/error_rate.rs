//! Share of completions that the engine failed on.

use smpo_results::{Direction, FinishReason, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::sample::share;

/// `error_rate`.
pub static INFO: MetricInfo = MetricInfo {
    id: "error_rate",
    name: "Engine errors",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: false,
    binary: true,
    leaderboard: None,
    summary: true,
    description: "share of completions that the engine failed on; they are in no other metric",
    reference: "smpo",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric { of_failures: true, ..Metric::of_sample(&INFO, measure) }];

/// 1 if the engine failed.
fn measure(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    Some(share(view.sample.finish_reason == FinishReason::Error))
}
