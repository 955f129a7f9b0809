//! Python's `str` methods. Places and counts are in characters, as there.

use minijinja::value::Value;
use minijinja::{Error, ErrorKind};

use crate::python::arguments::{Arguments, bound_size, refused};
use crate::python::text::is_space;
use crate::python::{case, classes, format, slice, values};
use crate::rewriting::subscripts;

/// The result of `text.method(args)`; an unknown method is the error of that kind.
pub(crate) fn call(value: &Value, text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    if value.is_safe() {
        // Its methods escape their arguments.
        return Err(refused(method, "escaped text has no methods here"));
    }
    let changed = |text: &str| match changed(text, method, args)? {
        Some(text) => Ok(Some(Value::from(text))),
        None => answered(text, method, args),
    };
    changed(text)?.ok_or_else(|| Error::from(ErrorKind::UnknownMethod))
}

/// Methods that return text.
fn changed(text: &str, method: &str, args: &[Value]) -> Result<Option<String>, Error> {
    let owned = |text: &str| Ok(Some(text.to_string()));
    match method {
        "strip" | "lstrip" | "rstrip" => {
            let args = Arguments::bind(method, [""], args)?;
            owned(strip(text, args.optional_text(0)?, method))
        }
        "removeprefix" => {
            let args = Arguments::bind(method, [""], args)?;
            owned(text.strip_prefix(args.text(0)?).unwrap_or(text))
        }
        "removesuffix" => {
            let args = Arguments::bind(method, [""], args)?;
            owned(text.strip_suffix(args.text(0)?).unwrap_or(text))
        }
        "zfill" => {
            let args = Arguments::bind(method, [""], args)?;
            args.required(0)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            let zeros = args.width(0, 0)?.saturating_sub(text.chars().count());
            Ok(Some(format!("{sign}{}{digits}", "0".repeat(zeros))))
        }
        "ljust" | "rjust" | "center" => {
            let args = Arguments::bind(method, ["", ""], args)?;
            args.required(0)?;
            let fill = args.value(1).map_or(Ok(" "), |_| args.text(1))?;
            let mut filling = fill.chars();
            match (filling.next(), filling.next()) {
                (Some(fill), None) => Ok(Some(pad(text, method, args.width(0, 0)?, fill))),
                _ => Err(args.refuse(&format!("expected one character to fill with, got {fill:?}"))),
            }
        }
        "expandtabs" => {
            let args = Arguments::bind(method, ["tabsize"], args)?;
            expand_tabs(text, args.width(0, 8)?).map(Some)
        }
        "replace" => {
            let args = Arguments::bind(method, ["", "", ""], args)?;
            replace(text, args.text(0)?, args.text(1)?, args.whole(2, -1)?).map(Some)
        }
        "join" => {
            let args = Arguments::bind(method, [""], args)?;
            let parts = values::iterate("join", args.required(0)?)?.map(|item| {
                let part = item.as_str().filter(|_| !item.is_safe()).map(str::to_string);
                part.ok_or_else(|| args.refuse(&format!("expected strings, got {}", item.kind())))
            });
            join(parts, text).map(Some)
        }
        subscripts::SLICE => {
            let chars: Vec<char> = text.chars().collect();
            Ok(Some(slice::items(&chars, args)?.into_iter().collect()))
        }
        "format" => format::braces(text, args).map(Some),
        "upper" | "lower" | "capitalize" | "title" | "swapcase" | "casefold" => {
            Arguments::bind(method, [], args)?;
            match method {
                "upper" => Ok(Some(text.to_uppercase())),
                "lower" => Ok(Some(text.to_lowercase())),
                _ => case::change(method, text),
            }
        }
        _ => Ok(None),
    }
}

/// Methods that return something else.
fn answered(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let texts = |parts: Vec<&str>| Ok(Some(values::list(parts.into_iter().map(Value::from).collect())));
    match method {
        "split" | "rsplit" => {
            let args = Arguments::bind(method, ["sep", "maxsplit"], args)?;
            let most = usize::try_from(args.whole(1, -1)?).unwrap_or(usize::MAX);
            match args.optional_text(0)? {
                Some("") => Err(args.refuse("expected a separator, got an empty one")),
                separator => texts(split(text, separator, most, method == "rsplit")),
            }
        }
        "splitlines" => {
            let args = Arguments::bind(method, ["keepends"], args)?;
            texts(lines(text, args.truth(0)))
        }
        "partition" | "rpartition" => {
            let args = Arguments::bind(method, [""], args)?;
            let separator = args.text(0)?;
            if separator.is_empty() {
                return Err(args.refuse("expected a separator, got an empty one"));
            }
            let parts = match method {
                "partition" => text.split_once(separator).map_or([text, "", ""], |(a, b)| [a, separator, b]),
                _ => text.rsplit_once(separator).map_or(["", "", text], |(a, b)| [a, separator, b]),
            };
            Ok(Some(values::tuple(parts.map(Value::from).to_vec())))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let args = Arguments::bind(method, ["", "", ""], args)?;
            let (part, within) = (args.text(0)?, within(text, args.optional_whole(1)?, args.optional_whole(2)?));
            if method == "count" {
                // An empty text is between all characters, which `matches` counts as Python does.
                return Ok(Some(Value::from(within.map_or(0, |(_, within)| within.matches(part).count()))));
            }
            let found = within.and_then(|(start, within)| {
                let at = if method.starts_with('r') { within.rfind(part) } else { within.find(part) };
                at.map(|at| start + within[..at].chars().count())
            });
            match found {
                Some(at) => Ok(Some(Value::from(at))),
                None if method.ends_with("find") => Ok(Some(Value::from(-1))),
                None => Err(args.refuse(&format!("{part:?} is not in the text"))),
            }
        }
        "startswith" | "endswith" => {
            let args = Arguments::bind(method, ["", "", ""], args)?;
            let within = within(text, args.optional_whole(1)?, args.optional_whole(2)?);
            let has = |part: &str| {
                within.is_some_and(|(_, within)| match method {
                    "startswith" => within.starts_with(part),
                    _ => within.ends_with(part),
                })
            };
            let given = args.required(0)?;
            if let Some(part) = given.as_str() {
                return Ok(Some(Value::from(has(part))));
            }
            if !values::is_tuple(given) {
                return Err(args.refuse(&format!("expected a string or a tuple of strings, got {}", given.kind())));
            }
            for part in given.try_iter()? {
                let kind = part.kind();
                let part = part.as_str().ok_or_else(|| args.refuse(&format!("expected strings, got {kind}")))?;
                if has(part) {
                    return Ok(Some(Value::from(true)));
                }
            }
            Ok(Some(Value::from(false)))
        }
        _ => match classes::is(method, text)? {
            Some(is) => Arguments::bind(method, [], args).map(|_| Some(Value::from(is))),
            None => Ok(None),
        },
    }
}

/// Text without the characters, or white space, at its ends.
pub(crate) fn strip<'a>(text: &'a str, chars: Option<&str>, method: &str) -> &'a str {
    let strips = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    match method {
        "lstrip" => text.trim_start_matches(strips),
        "rstrip" => text.trim_end_matches(strips),
        _ => text.trim_matches(strips),
    }
}

/// Text in the middle or at a side of so many characters.
pub(crate) fn pad(text: &str, method: &str, width: usize, fill: char) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let before = match method {
        "ljust" => 0,
        "rjust" => missing,
        // The layout `^` of a format puts the odd blank behind; `center` does so in even widths.
        "format" => missing / 2,
        _ => missing / 2 + (missing & width & 1),
    };
    let filled = |count: usize| std::iter::repeat_n(fill, count);
    filled(before).chain(text.chars()).chain(filled(missing - before)).collect()
}

/// The first occurrences of a text replaced: all where the count is negative.
pub(crate) fn replace(text: &str, old: &str, new: &str, count: i64) -> Result<String, Error> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    bound_size("replace", text.matches(old).take(most).count(), new.len(), text.len())?;
    Ok(text.replacen(old, new, most))
}

/// Texts with another between them.
pub(crate) fn join(parts: impl Iterator<Item = Result<String, Error>>, between: &str) -> Result<String, Error> {
    let mut out = String::new();
    for (index, part) in parts.enumerate() {
        out.push_str(if index > 0 { between } else { "" });
        out.push_str(&part?);
        bound_size("join", 1, between.len(), out.len())?;
    }
    Ok(out)
}

/// Parts of a text between separators, or between white space.
fn split<'a>(text: &'a str, separator: Option<&str>, most: usize, from_right: bool) -> Vec<&'a str> {
    let parts = most.saturating_add(1);
    match (separator, from_right) {
        (Some(separator), false) => text.splitn(parts, separator).collect(),
        (Some(separator), true) => {
            let mut found: Vec<&str> = text.rsplitn(parts, separator).collect();
            found.reverse();
            found
        }
        (None, false) => {
            let (mut found, mut rest) = (Vec::new(), text.trim_start_matches(is_space));
            while let Some(end) = rest.find(is_space).filter(|_| found.len() < most) {
                found.push(&rest[..end]);
                rest = rest[end..].trim_start_matches(is_space);
            }
            found.extend((!rest.is_empty()).then_some(rest));
            found
        }
        (None, true) => {
            let (mut found, mut rest) = (Vec::new(), text.trim_end_matches(is_space));
            while let Some((at, space)) =
                rest.char_indices().rfind(|(_, c)| is_space(*c)).filter(|_| found.len() < most)
            {
                found.push(&rest[at + space.len_utf8()..]);
                rest = rest[..at].trim_end_matches(is_space);
            }
            found.extend((!rest.is_empty()).then_some(rest));
            found.reverse();
            found
        }
    }
}

/// Lines, ended by any of the ends of lines that Python knows.
pub(crate) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends =
        |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(ends) {
        let end = rest[at..].chars().next().map_or(0, char::len_utf8);
        let end = at + if rest[at..].starts_with("\r\n") { 2 } else { end };
        found.push(&rest[..if keep_ends { end } else { at }]);
        rest = &rest[end..];
    }
    found.extend((!rest.is_empty()).then_some(rest));
    found
}

/// The part of a text between two places in characters, from its end where they are negative, and where it starts; `None`
/// where it would start behind its end.
fn within(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(usize, &str)> {
    if start.is_none() && end.is_none() {
        return Some((0, text));
    }
    let length = text.chars().count();
    let place = |place: i64| {
        let distance = usize::try_from(place.unsigned_abs()).unwrap_or(usize::MAX);
        if place < 0 { length.saturating_sub(distance) } else { distance }
    };
    let (start, end) = (place(start.unwrap_or(0)), end.map_or(length, place).min(length));
    let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
    (start <= end).then(|| (start, &text[byte(start)..byte(end)]))
}

/// Tabs as blanks up to the next column that the size divides.
fn expand_tabs(text: &str, size: usize) -> Result<String, Error> {
    bound_size("expandtabs", text.matches('\t').count(), size, text.len())?;
    let (mut out, mut column) = (String::with_capacity(text.len()), 0);
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let blanks = size - column % size;
                out.extend(std::iter::repeat_n(' ', blanks));
                column += blanks;
            }
            '\t' => {}
            _ => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(out)
}
