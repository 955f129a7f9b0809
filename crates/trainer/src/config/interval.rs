//! Steps between checkpoints or evaluations, as transformers' `save_steps` and `eval_steps` give them.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::Problems;

/// Steps from one checkpoint or evaluation to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Interval {
    /// A number of steps.
    Steps(u64),
    /// A share of all steps, above 0 and below 1.
    Share(f64),
    /// An epoch.
    Epoch,
}

/// Schema of an [`Interval`].
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[expect(dead_code)]
pub(super) enum IntervalSchema {
    Number(f64),
    Epoch(EpochSchema),
}

/// The word for an epoch.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[expect(dead_code)]
pub(super) enum EpochSchema {
    Epoch,
}

impl Interval {
    /// The steps at which something is due in a run of `total` steps, `per_epoch` in an epoch, with the first epoch after
    /// `since` steps.
    pub(crate) fn due(self, total: u64, per_epoch: u64, since: u64) -> Due {
        match self {
            Interval::Steps(every) => Due { every: every.max(1), from: 0 },
            Interval::Share(share) => Due { every: ((share * total as f64).ceil() as u64).max(1), from: 0 },
            Interval::Epoch => Due { every: per_epoch.max(1), from: since },
        }
    }

    /// Adds an error of the key `name` if the interval is none.
    pub(super) fn check(interval: Option<Self>, name: &str, problems: &mut Problems) {
        match interval {
            Some(Interval::Steps(steps)) => problems.range(name, steps > 0, "at least 1", steps),
            Some(Interval::Share(share)) => {
                problems.range(name, share > 0.0 && share < 1.0, "a share above 0 and below 1", share);
            }
            Some(Interval::Epoch) | None => {}
        }
    }
}

/// Steps at which something is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    every: u64,
    from: u64,
}

impl Due {
    /// True if it is due after `step` steps.
    pub fn at(self, step: u64) -> bool {
        step.checked_sub(self.from).is_some_and(|step| step.is_multiple_of(self.every))
    }
}

impl From<u64> for Interval {
    fn from(steps: u64) -> Self {
        Interval::Steps(steps)
    }
}

const EPOCH: &str = "epoch";

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Interval::Steps(steps) => serializer.serialize_u64(*steps),
            Interval::Share(share) => serializer.serialize_f64(*share),
            Interval::Epoch => serializer.serialize_str(EPOCH),
        }
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntervalVisitor)
    }
}

struct IntervalVisitor;

impl Visitor<'_> for IntervalVisitor {
    type Value = Interval;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number of steps, a share of all such as 0.25, or \"epoch\"")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Interval, E> {
        Ok(Interval::Steps(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Interval, E> {
        let refuse = |_| E::invalid_value(serde::de::Unexpected::Signed(value), &self);
        u64::try_from(value).map(Interval::Steps).map_err(refuse)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Interval, E> {
        if value < 1.0 {
            return Ok(Interval::Share(value));
        }
        if value.fract() != 0.0 || value >= u64::MAX as f64 {
            return Err(E::invalid_value(serde::de::Unexpected::Float(value), &self));
        }
        Ok(Interval::Steps(value as u64))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Interval, E> {
        if value == EPOCH {
            return Ok(Interval::Epoch);
        }
        Err(E::invalid_value(serde::de::Unexpected::Str(value), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_shares_and_epochs_are_steps() {
        let due = |interval: Interval| (1..=10).filter(|step| interval.due(10, 4, 2).at(*step)).collect::<Vec<_>>();
        assert_eq!(due(Interval::Steps(3)), [3, 6, 9]);
        assert_eq!((due(Interval::Share(0.25)), due(Interval::Share(0.01)).len()), (vec![3, 6, 9], 10));
        assert_eq!(due(Interval::Epoch), [2, 6, 10]);
    }

    #[test]
    fn each_form_reads_back() {
        for (text, interval) in [
            ("50", Interval::Steps(50)),
            ("50.0", Interval::Steps(50)),
            ("0.5", Interval::Share(0.5)),
            ("\"epoch\"", Interval::Epoch),
        ] {
            let read: Interval = serde_json::from_str(text).unwrap();
            assert_eq!(read, interval);
            let again = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Interval>(&again).unwrap(), interval);
        }
        for text in ["-1", "1.5", "\"year\"", "true", "1e99"] {
            assert!(serde_json::from_str::<Interval>(text).is_err(), "{text}");
        }
    }
}
