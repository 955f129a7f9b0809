//! Number formatting: shares in per cent, differences of shares in points, nats with a true minus sign.

use smpo_results::Unit;

/// A value in its unit: `97.3 %`, `−1.24`, `312`. Shares get as many digits as keep 99.95 % from reading as 100 %.
pub fn value(unit: Unit, value: f64) -> String {
    match unit {
        _ if !value.is_finite() => "–".to_owned(),
        Unit::Share => format!("{} %", percent(value)),
        _ => bare(unit, value),
    }
}

/// `low – high`, the unit once; a dash if an end is not finite.
pub fn interval(unit: Unit, low: f64, high: f64) -> String {
    if !low.is_finite() || !high.is_finite() {
        return "–".to_owned();
    }
    match unit {
        Unit::Share => format!("{} – {} %", percent(low), percent(high)),
        _ => format!("{} – {}", bare(unit, low), bare(unit, high)),
    }
}

/// A signed difference: `+11.8 points` for shares, `−0.42` otherwise.
pub fn difference(unit: Unit, value: f64) -> String {
    match unit {
        _ if !value.is_finite() => "–".to_owned(),
        Unit::Share => format!("{} points", signed(value * 100.0, 1)),
        _ => signed(value, decimals(unit)),
    }
}

/// The interval of a difference, in the unit of the difference beside it: `−1.2 … +3.4` (points, for shares).
pub fn difference_interval(unit: Unit, low: f64, high: f64) -> String {
    if !low.is_finite() || !high.is_finite() {
        return "–".to_owned();
    }
    match unit {
        Unit::Share => format!("{} … {}", signed(low * 100.0, 1), signed(high * 100.0, 1)),
        _ => format!("{} … {}", signed(low, decimals(unit)), signed(high, decimals(unit))),
    }
}

/// A margin, unsigned: `2 points`, `0.1`.
pub fn margin(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Share if trimmed(value * 100.0) == "1" => "1 point".to_owned(),
        Unit::Share => format!("{} points", trimmed(value * 100.0)),
        _ => trimmed(value),
    }
}

/// A p value: `0.032`, `< 0.001`.
pub fn p_value(p: f64) -> String {
    match p {
        p if !p.is_finite() => "–".to_owned(),
        p if p < 0.001 => "< 0.001".to_owned(),
        p => format!("{p:.3}"),
    }
}

/// Per cent with one decimal, or as many as keep it off an end that it has not reached, at most four.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let off_the_ends = |text: &String| {
        let number: f64 = text.parse().unwrap_or(percent);
        (number != 100.0 || share >= 1.0) && (number != 0.0 || share <= 0.0)
    };
    let found = (1..=4).map(|decimals| format!("{percent:.decimals$}")).find(off_the_ends);
    match found {
        Some(text) => minus(text),
        None if share < 0.5 => "< 0.0001".to_owned(),
        None => "> 99.9999".to_owned(),
    }
}

fn bare(unit: Unit, value: f64) -> String {
    minus(format!("{value:.*}", decimals(unit)))
}

fn decimals(unit: Unit) -> usize {
    match unit {
        Unit::Tokens => 0,
        Unit::Rank => 1,
        Unit::Nats => 2,
        Unit::Ratio | Unit::Share | Unit::Number => 3,
    }
}

fn signed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let is_zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    match value {
        _ if is_zero => text.replace('-', ""),
        value if value > 0.0 => format!("+{text}"),
        _ => minus(text),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.4}");
    minus(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// U+2212 lines up with digits and is not mistaken for a dash; a negative zero is a zero.
fn minus(text: String) -> String {
    if text.starts_with('-') && text.chars().all(|c| matches!(c, '-' | '0' | '.')) {
        return text.replace('-', "");
    }
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_do_not_round_onto_certainty() {
        assert_eq!(value(Unit::Share, 0.9731), "97.3 %");
        assert_eq!(value(Unit::Share, 0.9996), "99.96 %");
        assert_eq!(value(Unit::Share, 1.0), "100.0 %");
        assert_eq!(value(Unit::Share, 0.0), "0.0 %");
        assert_eq!(interval(Unit::Share, 0.0003, 0.02), "0.03 – 2.0 %");
        assert_eq!(interval(Unit::Share, 0.0, 0.00003), "0.0 – 0.003 %");
        assert_eq!(value(Unit::Share, 0.999997), "99.9997 %");
        assert_eq!(interval(Unit::Share, 1e-18, 1.0 - 1e-9), "< 0.0001 – > 99.9999 %");
    }

    #[test]
    fn differences_carry_their_sign() {
        assert_eq!(difference(Unit::Share, 0.118), "+11.8 points");
        assert_eq!(difference(Unit::Nats, -0.421), "−0.42");
        assert_eq!(difference(Unit::Share, -0.0001), "0.0 points");
        assert_eq!(difference_interval(Unit::Share, -0.012, 0.034), "−1.2 … +3.4");
        assert_eq!(margin(Unit::Share, 0.02), "2 points");
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        assert_eq!(value(Unit::Nats, f64::NAN), "–");
        assert_eq!(interval(Unit::Share, f64::NEG_INFINITY, 1.0), "–");
        assert_eq!(p_value(f64::NAN), "–");
        assert_eq!(p_value(0.00004), "< 0.001");
        assert_eq!(value(Unit::Nats, -0.0), "0.00");
    }
}
