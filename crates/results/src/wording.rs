//! Requirements and quantities in words, for the gate's reasons and every report.

use crate::{Direction, Requirement, Unit};

impl Requirement {
    /// The requirement with its margin or bound: `may be worse by less than 2.00 points`. `better` is the direction of
    /// the metric, or the side of an absolute bound.
    pub fn describe(self, margin: f64, better: Direction, unit: Unit) -> String {
        let amount = unit.quantity(margin, self != Requirement::Absolute);
        match (self, better) {
            (Requirement::NonInferior, _) => format!("may be worse by less than {amount}"),
            (Requirement::Superior, _) => format!("must be better by more than {amount}"),
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
            Unit::Ratio | Unit::Rank => (format!("{value:.3}"), ""),
        };
        // Rounding must not print "-0".
        let zero = number.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.'));
        let number = if zero { number.trim_start_matches('-') } else { &number };
        format!("{number}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_name_their_margin_in_the_metrics_unit() {
        let describe = |requirement: Requirement, better| requirement.describe(0.02, better, Unit::Share);
        assert_eq!(describe(Requirement::NonInferior, Direction::Lower), "may be worse by less than 2.00 points");
        assert_eq!(describe(Requirement::Superior, Direction::Higher), "must be better by more than 2.00 points");
        assert_eq!(describe(Requirement::Absolute, Direction::Lower), "must be at most 2.00 %");
        assert_eq!(describe(Requirement::Absolute, Direction::Higher), "must be at least 2.00 %");
    }

    #[test]
    fn no_quantity_is_a_negative_zero() {
        assert_eq!(Unit::Share.quantity(-0.000_01, true), "0.00 points");
        assert_eq!(Unit::Nats.quantity(-0.421, true), "-0.421 nats");
        assert_eq!(Unit::Rank.quantity(-0.0, false), "0.000");
    }
}
