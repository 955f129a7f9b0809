//! A rule's requirement: what it compares, its margin or bound, and the refusal of one that decides nothing.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use smpo_results::{Requirement, Unit};

/// A requirement, in the unit of the metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Require {
    /// Not worse than the baseline by the margin.
    NonInferior(f64),
    /// Better than the baseline by more than the margin.
    Superior(f64),
    /// Within the margin of the baseline, in either direction (two one-sided tests).
    Equivalent(f64),
    /// The candidate's own value is at least this.
    AtLeast(f64),
    /// The candidate's own value is at most this.
    AtMost(f64),
}

impl Require {
    /// The margin or bound.
    pub fn value(self) -> f64 {
        match self {
            Require::NonInferior(value)
            | Require::Superior(value)
            | Require::Equivalent(value)
            | Require::AtLeast(value)
            | Require::AtMost(value) => value,
        }
    }

    /// True for a bound on the candidate's own value.
    pub fn is_absolute(self) -> bool {
        matches!(self, Require::AtLeast(_) | Require::AtMost(_))
    }

    /// Its kind in the verdict.
    pub fn kind(self) -> Requirement {
        match self {
            Require::NonInferior(_) => Requirement::NonInferior,
            Require::Superior(_) => Requirement::Superior,
            Require::Equivalent(_) => Requirement::Equivalent,
            Require::AtLeast(_) | Require::AtMost(_) => Requirement::Absolute,
        }
    }

    /// Allowed values in words, for a requirement on a metric of this unit that no data could break or none could meet.
    pub(crate) fn refusal(self, unit: Unit) -> Option<&'static str> {
        let bounded = matches!(unit, Unit::Share);
        let from_zero = matches!(unit, Unit::Share | Unit::Tokens | Unit::Rank);
        match self {
            Require::NonInferior(m) | Require::Superior(m) | Require::Equivalent(m) if !m.is_finite() || m < 0.0 => {
                Some("a margin of at least 0")
            }
            Require::AtLeast(bound) | Require::AtMost(bound) if !bound.is_finite() => Some("a finite number"),
            Require::Equivalent(0.0) => Some("a margin above 0: no number of prompts shows that two arms are equal"),
            Require::NonInferior(m) | Require::Superior(m) | Require::Equivalent(m) if bounded && m >= 1.0 => {
                Some("a margin below 1, as a share: 0.02 is 2 points. No two shares differ by more than 1")
            }
            Require::AtMost(bound) if bounded && bound >= 1.0 => {
                Some("a bound below 1, as a share: 0.02 is 2 %. No share is above 1, so this rule could never fail")
            }
            Require::AtLeast(bound) if bounded && bound >= 1.0 => {
                Some("a bound below 1, as a share: 0.97 is 97 %. No number of prompts shows a share of 1 or more")
            }
            Require::AtMost(bound) if from_zero && bound <= 0.0 => {
                Some("a bound above 0: no number of prompts shows a value of 0 or less")
            }
            Require::AtLeast(bound) if from_zero && bound <= 0.0 => {
                Some("a bound above 0: no value is below 0, so this rule could never fail")
            }
            _ => None,
        }
    }

    /// True for two bounds that no value meets.
    pub(crate) fn excludes(self, other: Require) -> bool {
        match (self, other) {
            (Require::AtLeast(low), Require::AtMost(high)) | (Require::AtMost(high), Require::AtLeast(low)) => {
                low > high
            }
            _ => false,
        }
    }
}

/// A requirement as a policy writes it.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Written {
    NonInferior(Amount),
    Superior(Amount),
    Equivalent(Amount),
    AtLeast(Amount),
    AtMost(Amount),
}

impl Written {
    pub fn require(self) -> Require {
        match self {
            Written::NonInferior(amount) => Require::NonInferior(amount.value),
            Written::Superior(amount) => Require::Superior(amount.value),
            Written::Equivalent(amount) => Require::Equivalent(amount.value),
            Written::AtLeast(amount) => Require::AtLeast(amount.value),
            Written::AtMost(amount) => Require::AtMost(amount.value),
        }
    }

    /// True for an amount in per cent or points.
    pub fn hundredths(self) -> bool {
        match self {
            Written::NonInferior(amount)
            | Written::Superior(amount)
            | Written::Equivalent(amount)
            | Written::AtLeast(amount)
            | Written::AtMost(amount) => amount.hundredths,
        }
    }
}

/// A number, or `"2 %"` or `"2 points"`: hundredths of a share.
#[derive(Clone, Copy)]
pub(crate) struct Amount {
    value: f64,
    hundredths: bool,
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Amount;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, \"2 %\" or \"2 points\"")
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Amount, E> {
                Ok(Amount { value, hundredths: false })
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Amount, E> {
                Ok(Amount { value: value as f64, hundredths: false })
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Amount, E> {
                let number = ["%", "points", "point"].iter().find_map(|unit| text.trim().strip_suffix(unit));
                match number.and_then(|number| number.trim().parse::<f64>().ok()) {
                    Some(number) => Ok(Amount { value: number / 100.0, hundredths: true }),
                    None => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}
