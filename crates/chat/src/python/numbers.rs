//! Jinja's filters of numbers, which take and make Python's.

use minijinja::Error;
use minijinja::value::{Value, ValueKind};

use crate::python::arguments::{Arguments, refused};

/// Powers of ten beyond which a float is no longer exact.
const EXACT_POWER: i64 = 22;

/// `int(value, default=0, base=10)`.
pub(crate) fn int(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("int", ["value", "default", "base"], args)?;
    let value = args.required(0)?;
    let default = || Ok(args.value(1).cloned().unwrap_or_else(|| Value::from(0)));
    match value.kind() {
        ValueKind::Undefined => Err(args.refuse("expected a value, got an undefined one")),
        ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Ok(value.clone()),
        ValueKind::Number => match f64::try_from(value.clone())? {
            number if number.is_nan() => default(),
            number => truncated(number).ok_or_else(|| args.refuse(&format!("{number} is too large"))),
        },
        ValueKind::String => {
            let text = python_number(value.as_str().unwrap_or_default(), "int")?;
            if let Some(whole) = whole_in_base(&text, args.whole(2, 10)?)? {
                return Ok(whole);
            }
            match float_of(&text) {
                Some(number) if number.is_finite() => {
                    truncated(number).ok_or_else(|| args.refuse(&format!("{number} is too large")))
                }
                _ => default(),
            }
        }
        _ => default(),
    }
}

/// `float(value, default=0.0)`.
pub(crate) fn float(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("float", ["value", "default"], args)?;
    let value = args.required(0)?;
    let default = || Ok(args.value(1).cloned().unwrap_or_else(|| Value::from(0.0)));
    match value.kind() {
        ValueKind::Undefined => Err(args.refuse("expected a value, got an undefined one")),
        ValueKind::Bool => Ok(Value::from(f64::from(value.is_true()))),
        ValueKind::Number => Ok(Value::from(f64::try_from(value.clone())?)),
        ValueKind::String => {
            let text = python_number(value.as_str().unwrap_or_default(), "float")?;
            float_of(&text).map_or_else(default, |number| Ok(Value::from(number)))
        }
        _ => default(),
    }
}

/// `round(value, precision=0, method='common')`.
pub(crate) fn round(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("round", ["value", "precision", "method"], args)?;
    let (value, precision) = (args.required(0)?, args.whole(1, 0)?);
    let method = args.value(2).map_or(Ok("common"), |_| args.text(2))?;
    let is_whole = value.is_integer() || value.kind() == ValueKind::Bool;
    if !is_whole && value.kind() != ValueKind::Number {
        return Err(args.refuse(&format!("expected a number, got {}", value.kind())));
    }
    let direction: fn(f64) -> f64 = match method {
        "common" if is_whole => {
            let whole = i128::try_from(value.clone())?;
            return rounded_whole(whole, precision).map(Value::from).ok_or_else(|| args.refuse("it is too large"));
        }
        "common" => {
            let number = f64::try_from(value.clone())?;
            let rounded = rounded(number, precision).ok_or_else(|| args.refuse("it is too large"))?;
            return Ok(Value::from(rounded));
        }
        "floor" => f64::floor,
        "ceil" => f64::ceil,
        other => return Err(args.refuse(&format!("expected the method common, floor or ceil, got {other:?}"))),
    };
    let number = f64::try_from(value.clone())?;
    if !(0..=EXACT_POWER).contains(&precision) {
        return Err(args.refuse(&format!("expected a precision of 0 to {EXACT_POWER}, got {precision}")));
    }
    let power = 10f64.powi(i32::try_from(precision).unwrap_or_default());
    // An integer is multiplied exactly, and divided at once: so it is here while a float holds it.
    let scaled = direction(number * power);
    if scaled.abs() < (1u64 << f64::MANTISSA_DIGITS) as f64 {
        // The integer between has no negative zero.
        Ok(Value::from(if scaled == 0.0 { 0.0 } else { scaled / power }))
    } else {
        Err(args.refuse("it is too large"))
    }
}

/// Rounds half to even, as the exact decimal value of a float tells.
fn rounded(number: f64, precision: i64) -> Option<f64> {
    if !number.is_finite() || precision > 323 {
        return Some(number);
    }
    if let Ok(digits) = usize::try_from(precision) {
        return format!("{number:.digits$}").parse().ok();
    }
    // To tens and more, the whole part decides but for a half.
    let whole = number.trunc();
    let exact = (whole.abs() < (1u64 << f64::MANTISSA_DIGITS) as f64).then_some(whole as i128)?;
    let unit = 10i128.checked_pow(u32::try_from(precision.unsigned_abs()).ok()?)?;
    let (size, beyond) = (exact.abs(), number != whole);
    let (down, rest) = (size / unit * unit, size % unit);
    let up = rest > unit / 2 || rest == unit / 2 && (beyond || (down / unit) % 2 == 1);
    Some((if up { down + unit } else { down } as f64).copysign(number))
}

fn rounded_whole(whole: i128, precision: i64) -> Option<i128> {
    if precision >= 0 {
        return Some(whole);
    }
    let unit = 10i128.checked_pow(u32::try_from(precision.unsigned_abs()).ok()?)?;
    let (down, rest) = (whole.div_euclid(unit), whole.rem_euclid(unit));
    let up = rest > unit / 2 || rest == unit / 2 && down % 2 != 0;
    (down + i128::from(up)).checked_mul(unit)
}

fn truncated(number: f64) -> Option<Value> {
    let limit = i128::MAX as f64;
    (number.abs() < limit).then(|| {
        let whole = number as i128;
        i64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from)
    })
}

/// A text that may be a number, without white space around it, among which Python does not count ASCII separators here;
/// digits of other scripts are digits to it.
fn python_number(text: &str, filter: &str) -> Result<String, Error> {
    let text = text.trim();
    match text.chars().find(|c| !c.is_ascii() && c.is_numeric()) {
        Some(c) => Err(refused(filter, &format!("cannot tell whether {c:?} is a digit"))),
        None => Ok(text.to_string()),
    }
}

/// The integer that a text is in a base: `None` if it is none.
fn whole_in_base(text: &str, base: i64) -> Result<Option<Value>, Error> {
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2)];
    let lower = digits.to_ascii_lowercase();
    let prefixed = prefixes.into_iter().find(|(prefix, own)| lower.starts_with(prefix) && (base == 0 || base == *own));
    let (digits, base) = match (prefixed, base) {
        // One underscore may stand behind the prefix.
        (Some((_, own)), _) => (lower[2..].strip_prefix('_').unwrap_or(&lower[2..]), own),
        (None, 0) if lower.starts_with('0') && lower.bytes().any(|digit| matches!(digit, b'1'..=b'9')) => {
            return Ok(None);
        }
        (None, 0) => (&lower[..], 10),
        (None, base) => (&lower[..], base),
    };
    let Some(radix) = u32::try_from(base).ok().filter(|radix| (2..=36).contains(radix)) else { return Ok(None) };
    let parts: Vec<&str> = digits.split('_').collect();
    let is_part = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_digit(radix));
    if !parts.iter().all(is_part) {
        return Ok(None);
    }
    let sign = if negative { "-" } else { "" };
    let whole = i128::from_str_radix(&format!("{sign}{}", parts.concat()), radix);
    let whole = whole.map_err(|_| refused("int", "expected at most 127 bits, got more"))?;
    Ok(Some(i64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from)))
}

/// The float that a text is.
fn float_of(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let lone = |(at, byte): (usize, &u8)| *byte == b'_' && !(digit(at.checked_sub(1)) && digit(Some(at + 1)));
    if bytes.iter().enumerate().any(lone) {
        return None;
    }
    text.replace('_', "").parse().ok()
}
