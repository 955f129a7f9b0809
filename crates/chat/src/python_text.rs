//! Python's `str()` and `repr()` of template values: Jinja prints values with them, so `True`, `None`, `1e+16` and
//! `{'a': [1]}` must read as they do there.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};

/// The deepest nesting that is read: what lies deeper is `...`, as Python shows a list in itself.
pub(crate) const DEEPEST: usize = 500;

/// `str(value)`; an undefined value is empty.
pub(crate) fn str_of(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.as_str().unwrap_or_default().to_string(),
        _ => repr_of(value, 0),
    }
}

fn repr_of(value: &Value, depth: usize) -> String {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map if depth >= DEEPEST => "...".to_string(),
        ValueKind::Undefined => "Undefined".to_string(),
        ValueKind::None => "None".to_string(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_string(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            let items: Vec<_> = value.try_iter().into_iter().flatten().map(|item| repr_of(&item, depth + 1)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let items: Vec<_> = value
                .try_iter()
                .into_iter()
                .flatten()
                .map(|key| {
                    let item = value.get_item(&key).unwrap_or(Value::UNDEFINED);
                    format!("{}: {}", repr_of(&key, depth + 1), repr_of(&item, depth + 1))
                })
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        _ => value.to_string(),
    }
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

/// `repr(str)`: single quotes unless the text has them and no double ones.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
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
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                // writing into a String cannot fail
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::{float, is_space, str_of};
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
        assert_eq!(str_of(&value), r#"{'a': [1, 2.0, True, None, "it's", 'q"\'\n']}"#);
    }

    #[test]
    fn characters_without_a_glyph_are_escaped_in_containers() {
        let value = Value::from_serialize(["\u{0} \u{1f}\u{7f}~\t\r\\é"]);
        assert_eq!(str_of(&value), r"['\x00 \x1f\x7f~\t\r\\é']");
    }

    #[test]
    fn what_python_strips_is_space() {
        let stripped = ['\u{1c}', '\u{1f}', '\u{85}', '\u{a0}', '\n'];
        assert!(stripped.into_iter().all(is_space) && ['\u{1b}', '!', '\u{200b}'].into_iter().all(|c| !is_space(c)));
    }
}
