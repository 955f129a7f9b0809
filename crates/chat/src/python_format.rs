//! Python's `str.format` and `%`. Their fields are read here; the engine writes numbers and texts that have a layout.

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Error, FormatStyle, format_filter};

use crate::python_arguments::{WIDEST, refused, whole};
use crate::python_text;

/// `format.format(args)`.
pub(crate) fn braces(format: &str, args: &[Value]) -> Result<String, Error> {
    let refuse = |problem: &str| refused("format", problem);
    let (positional, keywords): (&[Value], Kwargs) = from_args(args)?;
    let (mut out, mut rest, mut next, mut numbered) = (String::new(), format, 0, None);
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let (brace, behind) = rest[at..].split_at(1);
        if let Some(behind) = behind.strip_prefix(brace) {
            out.push_str(brace);
            rest = behind;
            continue;
        }
        let (field, behind) = behind.split_once('}').filter(|_| brace == "{").ok_or_else(|| refuse("a lone brace"))?;
        rest = behind;
        if field.contains('{') {
            return Err(refuse("a field inside of a field"));
        }
        let (place, layout) = field.split_once(':').unwrap_or((field, ""));
        let (place, conversion) = place.split_once('!').map_or((place, None), |(place, name)| (place, Some(name)));
        let (name, path) = place.split_at(place.find(['.', '[']).unwrap_or(place.len()));
        let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        if (name.is_empty() || is_number) && *numbered.get_or_insert(is_number) != is_number {
            return Err(refuse("fields with and without a number"));
        }
        let value = if name.is_empty() {
            next += 1;
            positional.get(next - 1).cloned()
        } else if is_number {
            name.parse::<usize>().ok().and_then(|index| positional.get(index)).cloned()
        } else {
            keywords.get::<Value>(name).ok()
        };
        let value = value.ok_or_else(|| refuse(&format!("nothing is given for {{{field}}}")))?;
        let value = item_of(value, path).ok_or_else(|| refuse(&format!("cannot read {{{field}}}")))?;
        out.push_str(&match conversion {
            None => laid_out(value, layout)?,
            Some("s") => laid_out(Value::from(python_text::str_of(&value)?), layout)?,
            Some("r") => laid_out(Value::from(python_text::repr_of(&value)?), layout)?,
            Some(other) => return Err(refuse(&format!("expected the conversion `s` or `r`, got {other:?}"))),
        });
    }
    out.push_str(rest);
    Ok(out)
}

/// The item that a field's `[…]` lead to.
fn item_of(mut value: Value, mut path: &str) -> Option<Value> {
    while !path.is_empty() {
        let (key, behind) = path.strip_prefix('[')?.split_once(']')?;
        let key = key.parse::<usize>().map_or_else(|_| Value::from(key), Value::from);
        value = value.get_item(&key).ok().filter(|item| !item.is_undefined())?;
        path = behind;
    }
    Some(value)
}

/// A value in a layout such as `>10` or `.2f`.
fn laid_out(value: Value, layout: &str) -> Result<String, Error> {
    if layout.is_empty() {
        return python_text::str_of(&value);
    }
    check_widths(layout)?;
    match value.kind() {
        ValueKind::Number | ValueKind::String if !layout.ends_with(['n', '%', 'c']) => {
            format_filter(FormatStyle::StrFormat, &format!("{{:{layout}}}"), &[value])
        }
        kind => Err(refused("format", &format!("cannot lay out {kind} as {layout:?}"))),
    }
}

fn check_widths(layout: &str) -> Result<(), Error> {
    let numbers = layout.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let mut wide = numbers.filter(|digits| digits.parse::<usize>().map_or(true, |width| width > WIDEST));
    wide.next().map_or(Ok(()), |width| Err(refused("format", &format!("expected at most {WIDEST}, got {width}"))))
}

/// `format % args`, or `format % keywords`.
pub(crate) fn percent(format: &str, positional: &[Value], keywords: &Kwargs) -> Result<String, Error> {
    let refuse = |problem: &str| refused("format", problem);
    let has_keywords = keywords.args().next().is_some();
    if has_keywords && !positional.is_empty() {
        return Err(refuse("arguments by position and by name"));
    }
    let (mut out, mut rest, mut next) = (String::new(), format, 0);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let named = rest.strip_prefix('(').map(|inner| inner.split_once(')').ok_or_else(|| refuse("a lone bracket")));
        let name = match named.transpose()? {
            Some((name, behind)) => {
                rest = behind;
                Some(name)
            }
            None => None,
        };
        let end = rest.find(|c: char| !"-+ #.0123456789".contains(c)).ok_or_else(|| refuse("a lone `%`"))?;
        let (layout, kind) = (&rest[..end], rest[end..].chars().next().unwrap_or_default());
        rest = &rest[end + kind.len_utf8()..];
        if kind == '%' && name.is_none() && layout.is_empty() {
            out.push('%');
            continue;
        }
        let value = match name {
            Some(name) => keywords.get::<Value>(name).ok(),
            None if has_keywords => None,
            None => {
                next += 1;
                positional.get(next - 1).cloned()
            }
        };
        let value = value.ok_or_else(|| refuse("too few arguments"))?;
        check_widths(layout)?;
        let is_number = matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
        let (value, kind) = match kind {
            's' => (Value::from(python_text::str_of(&value)?), 's'),
            'r' => (Value::from(python_text::repr_of(&value)?), 's'),
            'd' | 'i' | 'u' if is_number => {
                let whole = whole(&value).ok_or_else(|| refuse(&format!("expected an integer, got {value}")))?;
                (Value::from(whole), 'd')
            }
            'x' | 'X' | 'o' | 'c' if value.is_integer() => (value, kind),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' if is_number => (Value::from(f64::try_from(value)?), kind),
            _ => return Err(refuse(&format!("cannot write {} as `%{kind}`", value.kind()))),
        };
        match layout {
            "" if kind == 's' => out.push_str(value.as_str().unwrap_or_default()),
            _ => out.push_str(&format_filter(FormatStyle::Printf, &format!("%{layout}{kind}"), &[value])?),
        }
    }
    if next < positional.len() {
        return Err(refuse(&format!("expected {next} arguments, got {}", positional.len())));
    }
    out.push_str(rest);
    Ok(out)
}
