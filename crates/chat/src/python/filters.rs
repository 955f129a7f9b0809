//! Jinja's filters of text and of sequences, where the engine's own do something else.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, Value, ValueKind, from_args};
use minijinja::{Environment, Error, State, filters};

use crate::python::arguments::{Arguments, bound_size, refused, whole};
use crate::python::order::{self, attribute_of};
use crate::python::strings::{self, lines, pad, replace};
use crate::python::text::{is_space, repr_of, str_of};
use crate::python::values::{Generator, is_generator, iterate, list, pairs};
use crate::python::{case, classes, format, numbers};

/// Adds them, and removes those that Jinja has not.
pub(crate) fn add(environment: &mut Environment<'static>) {
    for name in ["split", "lines", "bool", "chain", "zip", "attr"] {
        // `attr` of Python reads attributes, which messages do not have; the engine's reads their items.
        environment.remove_filter(name);
    }
    let mut add = |name: &'static str, filter: fn(&[Value]) -> Result<Value, Error>| {
        environment.add_filter(name, move |args: Rest<Value>| filter(&args));
    };
    add("abs", abs);
    add("capitalize", |args| on_text("capitalize", args, case::capitalize));
    add("center", center);
    add("count", |args| length("count", args));
    add("d", |args| default("d", args));
    add("default", |args| default("default", args));
    add("dictsort", order::dictsort);
    add("e", |args| escape("e", args));
    add("escape", |args| escape("escape", args));
    add("float", numbers::float);
    add("format", format);
    add("indent", indent);
    add("int", numbers::int);
    add("items", items);
    add("join", join);
    add("last", last);
    add("length", |args| length("length", args));
    add("list", |args| Ok(list(iterate("list", Arguments::bind("list", ["value"], args)?.required(0)?)?.collect())));
    add("lower", |args| on_text("lower", args, |text| Ok(text.to_lowercase())));
    add("max", |args| order::extreme("max", args));
    add("min", |args| order::extreme("min", args));
    add("pprint", pprint);
    add("replace", replace_filter);
    add("reverse", reverse);
    add("round", numbers::round);
    add("safe", |args| mark_safe(&Arguments::bind("safe", ["value"], args)?));
    add("sort", order::sort);
    add("string", string);
    add("sum", sum);
    add("title", |args| on_text("title", args, |text| Ok(title(text))));
    add("trim", trim);
    add("truncate", truncate);
    add("upper", |args| on_text("upper", args, |text| Ok(text.to_uppercase())));
    add("urlencode", urlencode);
    add("wordcount", wordcount);
    add_generators(environment);
}

/// Filters that return a generator in Jinja. Those of the engine find nothing in `none`, as there.
fn add_generators(environment: &mut Environment<'static>) {
    environment.add_filter("map", |state: &State<'_, '_>, value: Value, args: Rest<Value>| {
        filters::map(state, value, args).map(Generator::of)
    });
    type Test = Option<String>;
    environment.add_filter("select", |state: &State<'_, '_>, value: Value, test: Test, args: Rest<Value>| {
        filters::select(state, value, test.map(Into::into), args).map(Generator::of)
    });
    environment.add_filter("reject", |state: &State<'_, '_>, value: Value, test: Test, args: Rest<Value>| {
        filters::reject(state, value, test.map(Into::into), args).map(Generator::of)
    });
    let selectattr = |state: &State<'_, '_>, value: Value, attr: String, test: Test, args: Rest<Value>| {
        filters::selectattr(state, value, attr.into(), test.map(Into::into), args).map(Generator::of)
    };
    environment.add_filter("selectattr", selectattr);
    let rejectattr = |state: &State<'_, '_>, value: Value, attr: String, test: Test, args: Rest<Value>| {
        filters::rejectattr(state, value, attr.into(), test.map(Into::into), args).map(Generator::of)
    };
    environment.add_filter("rejectattr", rejectattr);
    environment.add_filter("unique", |state: &State<'_, '_>, value: Value, kwargs: Kwargs| {
        iterate("unique", &value)?;
        filters::unique(state, value, kwargs)?.try_iter().map(Generator::of)
    });
    environment.add_filter("batch", |args: Rest<Value>| -> Result<Value, Error> {
        let args = Arguments::bind("batch", ["value", "linecount", "fill_with"], &args)?;
        args.required(1)?;
        let (items, size) = (iterate("batch", args.required(0)?)?.collect::<Vec<_>>(), args.width(1, 0)?);
        if size == 0 {
            return Err(args.refuse("expected a count of at least 1, got 0"));
        }
        let mut rows: Vec<Vec<Value>> = items.chunks(size).map(<[Value]>::to_vec).collect();
        if let (Some(row), Some(fill)) = (rows.last_mut(), args.value(2).filter(|fill| !fill.is_none())) {
            row.resize(size, fill.clone());
        }
        Ok(Generator::of(rows.into_iter().map(list)))
    });
    environment.add_filter("slice", |args: Rest<Value>| -> Result<Value, Error> {
        let args = Arguments::bind("slice", ["value", "slices", "fill_with"], &args)?;
        args.required(1)?;
        let (items, count) = (iterate("slice", args.required(0)?)?.collect::<Vec<_>>(), args.width(1, 0)?);
        if count == 0 {
            return Err(args.refuse("expected a count of at least 1, got 0"));
        }
        let (size, longer) = (items.len() / count, items.len() % count);
        let (mut columns, mut rest): (Vec<Value>, &[Value]) = (Vec::new(), &items);
        for index in 0..count {
            let (column, behind) = rest.split_at(size + usize::from(index < longer));
            let fill = args.value(2).filter(|fill| !fill.is_none() && index >= longer);
            columns.push(list(column.iter().chain(fill).cloned().collect()));
            rest = behind;
        }
        Ok(Generator::of(columns))
    });
}

/// A filter of the text of a value, without arguments.
fn on_text(name: &str, args: &[Value], change: fn(&str) -> Result<String, Error>) -> Result<Value, Error> {
    let args = Arguments::bind(name, ["value"], args)?;
    let value = args.required(0)?;
    let text = change(&str_of(value)?)?;
    Ok(if value.is_safe() { Value::from_safe_string(text) } else { Value::from(text) })
}

/// A value as the text that it must be.
fn plain_text<'a, const N: usize>(args: &'a Arguments<'_, N>) -> Result<&'a str, Error> {
    match args.required(0)?.is_safe() {
        true => Err(args.refuse("escaped text is not taken here")),
        false => args.text(0),
    }
}

fn abs(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("abs", ["value"], args)?;
    match args.required(0)? {
        value if value.kind() == ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
        value => filters::abs(value.clone()),
    }
}

fn center(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("center", ["value", "width"], args)?;
    Ok(Value::from(pad(&str_of(args.required(0)?)?, "center", args.width(1, 80)?, ' ')))
}

fn length(name: &str, args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind(name, ["value"], args)?;
    let value = args.required(0)?;
    match value.kind() {
        ValueKind::Undefined => Ok(Value::from(0)),
        _ if is_generator(value) => Err(args.refuse("a generator has none; `list` makes a list of it")),
        kind => value.len().map(Value::from).ok_or_else(|| args.refuse(&format!("{kind} has none"))),
    }
}

fn default(name: &str, args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind(name, ["value", "default_value", "boolean"], args)?;
    let value = args.required(0)?;
    let is_missing = value.is_undefined() || args.truth(2) && !value.is_true();
    Ok(if is_missing { args.value(1).cloned().unwrap_or_else(|| Value::from("")) } else { value.clone() })
}

fn mark_safe(args: &Arguments<'_, 1>) -> Result<Value, Error> {
    Ok(Value::from_safe_string(str_of(args.required(0)?)?))
}

/// Text for HTML, with the marks that markupsafe writes.
fn escape(name: &str, args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind(name, ["value"], args)?;
    let value = args.required(0)?;
    if value.is_safe() {
        return Ok(value.clone());
    }
    let mut out = String::new();
    for c in str_of(value)?.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Ok(Value::from_safe_string(out))
}

fn format(args: &[Value]) -> Result<Value, Error> {
    let (positional, keywords): (&[Value], Kwargs) = from_args(args)?;
    let (format, positional) = positional.split_first().ok_or_else(|| refused("format", "expected a text"))?;
    if format.is_safe() {
        return Err(refused("format", "escaped text is not taken here"));
    }
    format::percent(&str_of(format)?, positional, &keywords).map(Value::from)
}

/// Lines behind so many blanks, or behind a text.
fn indent(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("indent", ["s", "width", "first", "blank"], args)?;
    let indention = match args.value(1).and_then(Value::as_str) {
        Some(text) => text.to_string(),
        None => " ".repeat(args.width(1, 4)?),
    };
    // As there, an end of line more lets the last line be one, empty or not.
    let text = format!("{}\n", plain_text(&args)?);
    let found = lines(&text, false);
    bound_size("indent", found.len(), indention.len(), text.len())?;
    let (first, blank) = (args.truth(2), args.truth(3));
    let mut out = String::with_capacity(text.len());
    for (index, line) in found.iter().enumerate() {
        out.push_str(if index > 0 { "\n" } else { "" });
        let indents = if index == 0 { first } else { blank || !line.is_empty() };
        out.push_str(if indents { &indention } else { "" });
        out.push_str(line);
    }
    Ok(Value::from(out))
}

fn items(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("items", ["value"], args)?;
    match args.required(0)? {
        value if value.is_undefined() => Ok(Generator::of([])),
        value if value.kind() == ValueKind::Map => Ok(Generator::of(pairs(value))),
        value => Err(args.refuse(&format!("expected a dictionary, got {}", value.kind()))),
    }
}

fn join(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("join", ["value", "d", "attribute"], args)?;
    let between = args.value(1).map_or_else(|| Ok(String::new()), str_of)?;
    let parts = iterate("join", args.required(0)?)?.map(|item| match args.value(2) {
        Some(attribute) if !attribute.is_none() => str_of(&attribute_at(&item, attribute)?),
        _ => str_of(&item),
    });
    strings::join(parts, &between).map(Value::from)
}

fn attribute_at(item: &Value, attribute: &Value) -> Result<Value, Error> {
    attribute.as_str().map_or_else(|| item.get_item(attribute), |path| attribute_of(item, path))
}

fn last(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("last", ["value"], args)?;
    let value = args.required(0)?;
    if is_generator(value) || value.is_none() {
        return Err(args.refuse(&format!("expected a sequence, got {}", value.kind())));
    }
    Ok(value.try_iter()?.last().unwrap_or_default())
}

/// The text of a value as `pprint` shows it in one line.
fn pprint(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("pprint", ["value"], args)?;
    let value = args.required(0)?;
    let text = repr_of(value)?;
    let is_container = matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String);
    if is_container && text.chars().count() > 80 {
        return Err(args.refuse("expected a value that fits in a line of 80 characters"));
    }
    if !is_in_order(value) {
        return Err(args.refuse("expected dictionaries with their keys in order, since it sorts them"));
    }
    Ok(Value::from(text))
}

/// True if the keys of all dictionaries in a value, which fits in a line, are in their order.
fn is_in_order(value: &Value) -> bool {
    let mut inner = value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Map => {
            let keys: Vec<Value> = inner.collect();
            let ordered = |pair: &[Value]| order::compare(&pair[0], &pair[1]).is_ok_and(std::cmp::Ordering::is_lt);
            keys.windows(2).all(ordered)
                && keys.iter().all(|key| value.get_item(key).is_ok_and(|item| is_in_order(&item)))
        }
        ValueKind::Seq => inner.all(|item| is_in_order(&item)),
        _ => true,
    }
}

fn replace_filter(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("replace", ["s", "old", "new", "count"], args)?;
    let text = |index: usize| str_of(args.required(index)?);
    replace(&text(0)?, &text(1)?, &text(2)?, args.optional_whole(3)?.unwrap_or(-1)).map(Value::from)
}

fn reverse(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("reverse", ["value"], args)?;
    let value = args.required(0)?;
    if let Some(text) = value.as_str() {
        let reversed: String = text.chars().rev().collect();
        return Ok(if value.is_safe() { Value::from_safe_string(reversed) } else { Value::from(reversed) });
    }
    let items: Vec<Value> = iterate("reverse", value)?.collect();
    Ok(Generator::of(items.into_iter().rev()))
}

fn string(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("string", ["value"], args)?;
    match args.required(0)? {
        value if value.as_str().is_some() => Ok(value.clone()),
        value => str_of(value).map(Value::from),
    }
}

/// `sum(iterable, attribute=None, start=0)` of numbers, or of lists.
fn sum(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("sum", ["iterable", "attribute", "start"], args)?;
    let mut total = args.value(2).cloned().unwrap_or_else(|| Value::from(0));
    let mut items = Vec::new();
    for item in iterate("sum", args.required(0)?)? {
        items.push(match args.value(1) {
            Some(attribute) if !attribute.is_none() => attribute_at(&item, attribute)?,
            _ => item,
        });
    }
    if total.kind() == ValueKind::Seq {
        let mut all: Vec<Value> = total.try_iter()?.collect();
        for item in items.iter().filter(|item| item.kind() == ValueKind::Seq) {
            all.extend(item.try_iter()?);
        }
        let is_list = |value: &Value| value.kind() == ValueKind::Seq && !crate::python::values::is_tuple(value);
        return match is_list(&total) && items.iter().all(is_list) {
            true => Ok(list(all)),
            false => Err(args.refuse("expected lists")),
        };
    }
    for item in items {
        let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
        let float = |value: &Value| whole(value).map_or_else(|| f64::try_from(value.clone()), |whole| Ok(whole as f64));
        total = match (whole(&total), whole(&item)) {
            (Some(a), Some(b)) => a.checked_add(b).map(Value::from).ok_or_else(|| args.refuse("it is too large"))?,
            _ if is_number(&total) && is_number(&item) => Value::from(float(&total)? + float(&item)?),
            _ => return Err(args.refuse(&format!("expected numbers, got {} and {}", total.kind(), item.kind()))),
        };
    }
    Ok(total)
}

/// Words begin behind white space, a hyphen or an opening bracket.
fn title(text: &str) -> String {
    let begins = |c: char| is_space(c) || "-({[<".contains(c);
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(begins) {
        let mut chars = word.chars();
        out.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        out.push_str(&chars.as_str().to_lowercase());
    }
    out
}

fn trim(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("trim", ["value", "chars"], args)?;
    Ok(Value::from(strings::strip(&str_of(args.required(0)?)?, args.optional_text(1)?, "strip")))
}

/// `truncate(s, length=255, killwords=False, end='...', leeway=5)`.
fn truncate(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("truncate", ["s", "length", "killwords", "end", "leeway"], args)?;
    let text = plain_text(&args)?;
    let end = args.value(3).map_or(Ok("..."), |_| args.text(3))?;
    let (length, leeway) = (args.whole(1, 255)?, args.optional_whole(4)?.unwrap_or(5));
    let kept = usize::try_from(length).ok().and_then(|length| length.checked_sub(end.chars().count()));
    let (Some(kept), 0..) = (kept, leeway) else {
        return Err(args.refuse("expected a length that has room for the end, and a leeway of at least 0"));
    };
    let most = usize::try_from(length.saturating_add(leeway)).unwrap_or(usize::MAX);
    if text.chars().count() <= most {
        return Ok(Value::from(text));
    }
    let kept: String = text.chars().take(kept).collect();
    let kept = if args.truth(2) { &kept } else { kept.rsplit_once(' ').map_or(&kept[..], |(before, _)| before) };
    Ok(Value::from(format!("{kept}{end}")))
}

/// Text, or the pairs of a dictionary, as a URL has them.
fn urlencode(args: &[Value]) -> Result<Value, Error> {
    fn quoted(value: &Value, in_query: bool) -> Result<String, Error> {
        let mut out = String::new();
        for byte in str_of(value)?.bytes() {
            match byte {
                b'/' if !in_query => out.push('/'),
                b' ' if in_query => out.push('+'),
                b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
                // writing into a String cannot fail
                _ => drop(write!(out, "%{byte:02X}")),
            }
        }
        Ok(out)
    }
    let args = Arguments::bind("urlencode", ["value"], args)?;
    let value = args.required(0)?;
    let given: Vec<Value> = match value.kind() {
        ValueKind::Map => pairs(value).collect(),
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.collect(),
        _ => return quoted(value, false).map(Value::from),
    };
    let parts = given.into_iter().map(|pair| {
        let [key, item] =
            <[Value; 2]>::try_from(pair.try_iter()?.collect::<Vec<_>>()).map_err(|_| args.refuse("expected pairs"))?;
        Ok(format!("{}={}", quoted(&key, true)?, quoted(&item, true)?))
    });
    strings::join(parts, "&").map(Value::from)
}

fn wordcount(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("wordcount", ["s"], args)?;
    let (mut count, mut inside) = (0, false);
    for c in str_of(args.required(0)?)?.chars() {
        let is_word = c == '_'
            || classes::is_alphanumeric(c).ok_or_else(|| args.refuse(&format!("is {c:?} a letter to Python?")))?;
        count += usize::from(is_word && !inside);
        inside = is_word;
    }
    Ok(Value::from(count))
}
