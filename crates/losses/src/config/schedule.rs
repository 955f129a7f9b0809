//! A number of `[loss]` that changes over training.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// A number that moves from one value to another over the first part of training and then stays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LossSchedule")]
pub struct Schedule {
    /// Value at the first step.
    pub from: f64,
    /// Value at the end, and where no step is known.
    pub to: f64,
    /// Course between the two.
    #[serde(default)]
    pub schedule: Course,
    /// Share of the steps, in (0, 1], after which the end is reached.
    #[serde(default = "whole_run")]
    pub warmup: f64,
}

/// Course of a schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// A straight line.
    #[default]
    Linear,
    /// Half a cosine: slow at both ends.
    Cosine,
}

fn whole_run() -> f64 {
    1.0
}

impl Schedule {
    /// The value at optimizer step `step` (from 0) of `steps`.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        let moving = (steps.max(1) - 1) as f64 * self.warmup;
        // 0/0 is NaN, which `min` passes over: a run of one step is at its end
        let progress = (step as f64 / moving).min(1.0);
        let share = match self.schedule {
            Course::Linear => progress,
            Course::Cosine => 0.5 * (1.0 - (std::f64::consts::PI * progress).cos()),
        };
        // not from + (to − from)·1, which may miss `to` by rounding
        if progress == 1.0 { self.to } else { self.from + (self.to - self.from) * share }
    }

    pub(crate) fn validate(&self, kind: &'static str, key: &str) -> Result<(), ConfigError> {
        for (field, given) in [("from", self.from), ("to", self.to)] {
            if !given.is_finite() {
                return Err(mismatch(kind, key, &format!("a finite `{field}`"), given));
            }
        }
        if !(self.warmup > 0.0 && self.warmup <= 1.0) {
            return Err(mismatch(kind, key, "`warmup` in (0, 1], a share of the steps", self.warmup));
        }
        Ok(())
    }
}

fn mismatch(kind: &'static str, key: &str, expected: &str, got: f64) -> ConfigError {
    ConfigError::Mismatch { kind, field: key.to_owned(), expected: expected.to_owned(), got: got.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_begins_and_ends_at_its_values() {
        for schedule in [Course::Linear, Course::Cosine] {
            let whole = Schedule { from: 0.01, to: 0.35, schedule, warmup: 1.0 };
            assert_eq!((whole.at(0, 11), whole.at(10, 11), whole.at(99, 11)), (0.01, 0.35, 0.35));
            assert!((whole.at(5, 11) - 0.18).abs() < 1e-12, "both are half way at half time");
            let half = Schedule { warmup: 0.5, ..whole };
            assert_eq!((half.at(0, 11), half.at(5, 11), half.at(10, 11)), (0.01, 0.35, 0.35));
            assert_eq!(whole.at(0, 1), 0.35, "a run of one step is its end");
        }
    }
}
