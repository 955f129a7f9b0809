//! Python's quotients and remainders: rounded down, where the engine rounds towards zero or keeps remainders positive.

use minijinja::Error;
use minijinja::value::{Value, ValueKind};

use crate::python::arguments::refused;

/// Integers up to here are floats without rounding.
const EXACT: i128 = 1 << f64::MANTISSA_DIGITS;

/// `left operator right`, the operator being `/`, `//` or `%`.
pub(crate) fn divided(left: &Value, operator: &str, right: &Value) -> Result<Value, Error> {
    let refuse = |problem: &str| refused(operator, problem);
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    if !is_number(left) || !is_number(right) {
        return Err(refuse(&format!("expected two numbers, got {} and {}", left.kind(), right.kind())));
    }
    let is_whole = |value: &Value| value.is_integer() || value.kind() == ValueKind::Bool;
    if is_whole(left) && is_whole(right) {
        let (a, b) = (i128::try_from(left.clone())?, i128::try_from(right.clone())?);
        let is_exact = |whole: i128| whole.unsigned_abs() <= EXACT.unsigned_abs();
        if b == 0 {
            return Err(refuse("division by zero"));
        }
        let result = match operator {
            "/" if is_exact(a) && is_exact(b) => Some(Value::from(a as f64 / b as f64)),
            "//" => a.checked_div(b).map(|quotient| whole(quotient - i128::from(is_below(a % b, b)))),
            "%" => a.checked_rem(b).map(|rest| whole(if is_below(rest, b) { rest + b } else { rest })),
            _ => None,
        };
        return result.ok_or_else(|| refuse("the numbers are too large"));
    }
    let (a, b) = (float(left)?, float(right)?);
    if b == 0.0 {
        return Err(refuse("division by zero"));
    }
    Ok(Value::from(match operator {
        "/" => a / b,
        "//" => quotient(a, b),
        _ => rest(a, b),
    }))
}

/// True for a remainder that is not zero and on the other side of it than the divisor.
fn is_below(rest: i128, divisor: i128) -> bool {
    rest != 0 && (rest < 0) != (divisor < 0)
}

fn float(value: &Value) -> Result<f64, Error> {
    match value.kind() {
        ValueKind::Bool => Ok(f64::from(value.is_true())),
        _ => f64::try_from(value.clone()),
    }
}

fn whole(number: i128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::from(number), Value::from)
}

/// `a % b` of floats, as CPython works it out.
fn rest(a: f64, b: f64) -> f64 {
    match a % b {
        0.0 => 0.0f64.copysign(b),
        rest if (rest < 0.0) != (b < 0.0) => rest + b,
        rest => rest,
    }
}

/// `a // b` of floats, as CPython works it out.
fn quotient(a: f64, b: f64) -> f64 {
    let rest = a % b;
    let turned = rest != 0.0 && (rest < 0.0) != (b < 0.0);
    let quotient = (a - rest) / b - f64::from(turned);
    if quotient == 0.0 {
        return 0.0f64.copysign(a / b);
    }
    let down = quotient.floor();
    down + f64::from(quotient - down > 0.5)
}
