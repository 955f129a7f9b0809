//! Python's `str()` and `repr()` of template values: Jinja prints values with them, so `True`, `None`, `1e+16` and
//! `{'a': [1]}` must read as they do there.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

use crate::python::arguments::bound_size;
use crate::python::values::{self, View};

/// The deepest nesting that is read: what lies deeper is `...`, as Python shows a list in itself.
pub(crate) const DEEPEST: usize = 500;

/// Types of such values.
const ENGINES_OWN: [&str; 3] = ["::Namespace", "::Macro", "::Loop"];

/// `str(value)`; an undefined value is empty.
///
/// # Errors
/// For a value whose text in Python is an address, or not known.
pub(crate) fn str_of(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(String::new()),
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_string()),
        _ => repr_of(value),
    }
}

/// `repr(value)`.
///
/// # Errors
/// As [`str_of`].
pub(crate) fn repr_of(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(&mut out, value, 0)?;
    Ok(out)
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    bound_size("text", 1, 0, out.len())?;
    let is_list = value.kind() == ValueKind::Seq || values::is_lazy_list(value);
    let is_tuple = values::is_any_tuple(value);
    match value.kind() {
        ValueKind::Seq | ValueKind::Map if depth >= DEEPEST => out.push_str("..."),
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => out.push_str(&float(f64::try_from(value.clone())?)),
        ValueKind::String if value.is_safe() => {
            out.push_str("Markup(");
            quote(out, value.as_str().unwrap_or_default());
            out.push(')');
        }
        ValueKind::String => quote(out, value.as_str().unwrap_or_default()),
        _ if is_list => {
            out.push(if is_tuple { '(' } else { '[' });
            let count = write_items(out, value, depth)?;
            out.push_str(if is_tuple && count == 1 { "," } else { "" });
            out.push(if is_tuple { ')' } else { ']' });
        }
        ValueKind::Map if !is_engines_own(value) => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        _ => match value.downcast_object_ref::<View>() {
            Some(view) => {
                out.push_str(view.name());
                out.push_str("([");
                write_items(out, value, depth)?;
                out.push_str("])");
            }
            None => {
                let message = format!("expected a value that has a text, got {}", value.kind());
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        },
    }
    Ok(())
}

/// True for what the engine makes a map of and Python does not: namespaces, macros, loops.
pub(crate) fn is_engines_own(value: &Value) -> bool {
    value.as_object().is_some_and(|object| ENGINES_OWN.iter().any(|own| object.type_name().ends_with(own)))
}

fn write_items(out: &mut String, value: &Value, depth: usize) -> Result<usize, Error> {
    let mut count = 0;
    for item in value.try_iter()? {
        out.push_str(if count > 0 { ", " } else { "" });
        write_repr(out, &item, depth + 1)?;
        count += 1;
    }
    Ok(count)
}

/// True if containers lie in each other deeper than [`DEEPEST`].
pub(crate) fn is_too_deep(value: &Value, depth: usize) -> bool {
    let deeper = |item: &Value| is_too_deep(item, depth + 1);
    match value.kind() {
        ValueKind::Seq | ValueKind::Map if depth >= DEEPEST => true,
        ValueKind::Seq => value.try_iter().into_iter().flatten().any(|item| deeper(&item)),
        ValueKind::Map => {
            value.try_iter().into_iter().flatten().any(|key| value.get_item(&key).is_ok_and(|item| deeper(&item)))
        }
        _ => false,
    }
}

/// Characters that `str.strip()` strips: Unicode white space and the four ASCII separators.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `repr(float)`: the shortest digits, an exponent below 1e-4 and from 1e16 on.
pub(crate) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_string();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        if plain.contains('.') { plain } else { format!("{plain}.0") }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

/// `repr(str)`: single quotes unless the text has them and no double ones; what has no glyph is escaped.
fn quote(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.reserve(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            c if is_printable(c) => out.push(c),
            c => {
                // writing into a String cannot fail
                let _ = match u32::from(c) {
                    code @ 0..=0xff => write!(out, "\\x{code:02x}"),
                    code @ 0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// True for characters that `repr` leaves as they are. Rust escapes the same ones in debug texts, and marks that combine
/// with what is before them only at the start of one.
fn is_printable(c: char) -> bool {
    let mut pair = [b'a'; 5];
    let length = 1 + c.encode_utf8(&mut pair[1..]).len();
    std::str::from_utf8(&pair[..length]).is_ok_and(|pair| !pair.escape_debug().skip(1).any(|escaped| escaped == '\\'))
}

#[cfg(test)]
mod tests {
    use super::{DEEPEST, float, is_space, str_of};
    use crate::python::values;
    use minijinja::Value;

    #[test]
    fn floats_read_as_in_python() {
        for (x, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-2.5e300, "-2.5e+300"),
            (-0.0, "-0.0"),
            (f64::NAN, "nan"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (1e-5, "1e-05"),
            (2.5e100, "2.5e+100"),
        ] {
            assert_eq!(float(x), expected);
        }
    }

    #[test]
    fn containers_read_as_in_python() {
        let value = Value::from_serialize(serde_json::json!({"a": [1, 2.0, true, null, "it's", "q\"'\n"]}));
        assert_eq!(str_of(&value).unwrap(), r#"{'a': [1, 2.0, True, None, "it's", 'q"\'\n']}"#);
    }

    #[test]
    fn characters_without_a_glyph_are_escaped_in_containers() {
        let value = Value::from_serialize(["\u{0} \u{1f}\u{7f}~\t\r\\é"]);
        assert_eq!(str_of(&value).unwrap(), r"['\x00 \x1f\x7f~\t\r\\é']");
    }

    #[test]
    fn what_python_strips_is_space() {
        let stripped = ['\u{1c}', '\u{1f}', '\u{85}', '\u{a0}', '\n'];
        assert!(stripped.into_iter().all(is_space) && ['\u{1b}', '!', '\u{200b}'].into_iter().all(|c| !is_space(c)));
    }

    #[test]
    fn what_lies_too_deep_is_left_out_of_keys_and_items_alike() {
        let pair = || values::tuple(vec![Value::from(1)]);
        let nested = |lists: usize| {
            let dict: Value = [(pair(), pair())].into_iter().collect();
            str_of(&(0..lists).fold(dict, |inner, _| values::list(vec![inner]))).unwrap()
        };
        assert!(nested(DEEPEST - 2).contains("[{(1,): (1,)}]"));
        assert!(nested(DEEPEST - 1).contains("[{...: ...}]"));
        assert!(nested(DEEPEST).contains("[...]"));
    }
}
