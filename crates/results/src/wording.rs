//! Requirements and quantities in words, for the gate's reasons and every report.

use crate::{Direction, Requirement, Unit};

impl Requirement {
    /// The requirement with its margin or bound: `may be worse by less than 2 points`. `better` is the direction of
    /// the metric, or the side of an absolute bound.
    pub fn describe(self, margin: f64, better: Direction, unit: Unit) -> String {
        let amount = if self == Requirement::Absolute { unit.bound(margin) } else { unit.margin(margin) };
        match (self, better) {
            (Requirement::NonInferior, _) => format!("may be worse by less than {amount}"),
            (Requirement::Superior, _) => format!("must be better by more than {amount}"),
            (Requirement::Equivalent, _) => format!("must be within {amount} either way"),
            (Requirement::Absolute, Direction::Lower) => format!("must be at most {amount}"),
            (Requirement::Absolute, _) => format!("must be at least {amount}"),
        }
    }
}

impl Unit {
    /// A value, or a difference of two, with its unit: `97.31 %`, `-1.20 points`, `-0.421 nats`.
    pub fn quantity(self, value: f64, difference: bool) -> String {
        let (number, suffix) = match self {
            Unit::Share if difference => (format!("{:.2}", 100.0 * value), " points"),
            Unit::Share => (format!("{:.2}", 100.0 * value), " %"),
            Unit::Nats => (format!("{value:.3}"), " nats"),
            Unit::Tokens => (format!("{value:.1}"), " tokens"),
            Unit::Ratio | Unit::Rank | Unit::Number => (format!("{value:.3}"), ""),
        };
        format!("{}{suffix}", without_negative_zero(&number))
    }

    /// A margin with its unit, as many digits as it has: `2 points`, `0.5 nats`.
    pub fn margin(self, value: f64) -> String {
        let (scale, one, many) = match self {
            Unit::Share => (100.0, " point", " points"),
            Unit::Nats => (1.0, " nats", " nats"),
            Unit::Tokens => (1.0, " token", " tokens"),
            Unit::Ratio | Unit::Rank | Unit::Number => (1.0, "", ""),
        };
        let number = trimmed(scale * value);
        let suffix = if number == "1" { one } else { many };
        format!("{number}{suffix}")
    }

    /// A bound on a value with its unit, as many digits as it has: `97 %`, `-0.5 nats`.
    pub fn bound(self, value: f64) -> String {
        match self {
            Unit::Share => format!("{} %", trimmed(100.0 * value)),
            _ => self.margin(value),
        }
    }
}

/// At most four decimals, no trailing zero.
fn trimmed(value: f64) -> String {
    let number = format!("{value:.4}");
    without_negative_zero(number.trim_end_matches('0').trim_end_matches('.')).to_owned()
}

/// Rounding must not print "-0".
fn without_negative_zero(number: &str) -> &str {
    let zero = number.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.'));
    if zero { number.trim_start_matches('-') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_name_their_margin_in_the_metrics_unit() {
        let describe = |requirement: Requirement, better| requirement.describe(0.02, better, Unit::Share);
        assert_eq!(describe(Requirement::NonInferior, Direction::Lower), "may be worse by less than 2 points");
        assert_eq!(describe(Requirement::Superior, Direction::Higher), "must be better by more than 2 points");
        assert_eq!(describe(Requirement::Absolute, Direction::Lower), "must be at most 2 %");
        assert_eq!(describe(Requirement::Absolute, Direction::Higher), "must be at least 2 %");
    }

    #[test]
    fn no_quantity_is_a_negative_zero() {
        assert_eq!(Unit::Share.quantity(-0.000_01, true), "0.00 points");
        assert_eq!(Unit::Nats.quantity(-0.421, true), "-0.421 nats");
        assert_eq!(Unit::Rank.quantity(-0.0, false), "0.000");
        assert_eq!(Unit::Share.margin(-0.0), "0 points");
    }

    #[test]
    fn margins_have_the_digits_they_were_written_with() {
        assert_eq!(Unit::Share.margin(0.02), "2 points");
        assert_eq!(Unit::Share.margin(0.01), "1 point");
        assert_eq!(Unit::Share.margin(0.0025), "0.25 points");
        assert_eq!(Unit::Nats.margin(0.5), "0.5 nats");
        assert_eq!(Unit::Share.bound(0.975), "97.5 %");
        assert_eq!(Unit::Tokens.bound(300.0), "300 tokens");
    }
}
