//! Python's `str.format` and `%`. Their fields are read here; the engine writes numbers and texts that have a layout.

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Error, FormatStyle, format_filter};

use crate::python::arguments::{WIDEST, bound_size, refused, whole};
use crate::python::strings::pad;
use crate::python::text;

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
        bound_size("format", 1, 0, out.len())?;
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
            Some("s") => laid_out(Value::from(text::str_of(&value)?), layout)?,
            Some("r") => laid_out(Value::from(text::repr_of(&value)?), layout)?,
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
        return text::str_of(&value);
    }
    check_widths(layout)?;
    let refuse = || refused("format", &format!("cannot lay out {} as {layout:?}", value.kind()));
    let layout_of = Layout::of(layout).ok_or_else(refuse)?;
    match (value.kind(), value.as_str()) {
        (_, Some(text)) if layout_of.is_for_text() => {
            let side = match layout_of.align {
                Some('>') => "rjust",
                Some('^') => "format",
                _ => "ljust",
            };
            Ok(text_in(text, side, layout_of.width, layout_of.fill, layout_of.precision))
        }
        (ValueKind::Number, _) if layout_of.is_for_number(value.is_integer()) => {
            format_filter(FormatStyle::StrFormat, &format!("{{:{layout}}}"), &[value])
        }
        _ => Err(refuse()),
    }
}

/// The parts of a layout: `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
struct Layout {
    fill: char,
    align: Option<char>,
    sign: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: bool,
    precision: Option<usize>,
    kind: Option<char>,
}

impl Layout {
    fn of(layout: &str) -> Option<Self> {
        let is_align = |c: &char| "<>^=".contains(*c);
        let mut chars = layout.chars();
        let (first, second) = (chars.next(), chars.next());
        let (fill, align, rest) = match (first, second) {
            (Some(fill), Some(align)) if is_align(&align) => (fill, Some(align), &layout[fill.len_utf8() + 1..]),
            (Some(align), _) if is_align(&align) => (' ', Some(align), &layout[1..]),
            _ => (' ', None, layout),
        };
        let (sign, rest) = after(rest, "+- ");
        let (alternate, rest) = after(rest, "#");
        let (zero, rest) = after(rest, "0");
        let (width, rest) = number(rest);
        let (grouping, rest) = after(rest, ",_");
        let (point, rest) = after(rest, ".");
        let (precision, rest) = number(rest);
        let kind = rest.chars().next();
        let ends = rest.is_empty() || rest.len() == 1 && kind.is_some_and(|kind| "sdboxXeEfFgG".contains(kind));
        let (width, precision) = (width.unwrap_or(0), precision.filter(|_| point));
        (ends && point == precision.is_some()).then_some(Self {
            fill,
            align,
            sign,
            alternate,
            zero,
            width,
            grouping,
            precision,
            kind,
        })
    }

    fn is_for_text(&self) -> bool {
        !self.sign
            && !self.alternate
            && !self.zero
            && !self.grouping
            && self.align != Some('=')
            && matches!(self.kind, None | Some('s'))
    }

    /// True for a layout in which the engine writes numbers as Python does.
    fn is_for_number(&self, is_whole: bool) -> bool {
        let is_float = matches!(self.kind, Some('e' | 'E' | 'f' | 'F' | 'g' | 'G'));
        let is_plain = !self.zero || self.align.is_none() && !self.grouping;
        is_plain
            && match (is_float, is_whole) {
                (true, _) => !self.alternate && (!self.grouping || matches!(self.kind, Some('f' | 'F'))),
                (false, true) => self.precision.is_none() && self.kind != Some('s'),
                (false, false) => !self.alternate && !self.grouping && self.kind.is_none() && self.precision != Some(0),
            }
    }
}

/// True if one of the characters begins a layout, and what is behind it.
fn after<'a>(layout: &'a str, set: &str) -> (bool, &'a str) {
    match layout.strip_prefix(|c| set.contains(c)) {
        Some(behind) => (true, behind),
        None => (false, layout),
    }
}

/// The number that begins a layout, and what is behind it.
fn number(layout: &str) -> (Option<usize>, &str) {
    let (digits, behind) = layout.split_at(layout.find(|c: char| !c.is_ascii_digit()).unwrap_or(layout.len()));
    (digits.parse().ok(), behind)
}

/// The first characters of a text, in a width.
fn text_in(text: &str, side: &str, width: usize, fill: char, precision: Option<usize>) -> String {
    let end = precision.and_then(|most| text.char_indices().nth(most)).map_or(text.len(), |(at, _)| at);
    pad(&text[..end], side, width, fill)
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
            None => {
                next += 1;
                positional.get(next - 1).cloned()
            }
        };
        let value = value.ok_or_else(|| refuse("too few arguments"))?;
        bound_size("format", 1, 0, out.len())?;
        check_widths(layout)?;
        let is_number = matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
        let (value, kind) = match kind {
            's' => (Value::from(text::str_of(&value)?), 's'),
            'r' => (Value::from(text::repr_of(&value)?), 's'),
            'd' | 'i' | 'u' => {
                let whole = whole(&value).ok_or_else(|| refuse(&format!("expected an integer, got {value}")))?;
                (Value::from(whole), 'd')
            }
            'x' | 'X' | 'o' | 'c' if value.is_integer() => (value, kind),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' if is_number => (Value::from(f64::try_from(value)?), kind),
            _ => return Err(refuse(&format!("cannot write {} as `%{kind}`", value.kind()))),
        };
        if kind == 's' {
            let (to_left, sized) = after(layout, "-");
            let (width, sized) = number(sized);
            let (point, sized) = after(sized, ".");
            let (precision, sized) = number(sized);
            if !sized.is_empty() || layout.trim_start_matches('-').starts_with('0') {
                return Err(refuse(&format!("cannot write `%{layout}s`")));
            }
            let (width, precision) = (width.unwrap_or(0), point.then(|| precision.unwrap_or(0)));
            let side = if to_left { "ljust" } else { "rjust" };
            out.push_str(&text_in(value.as_str().unwrap_or_default(), side, width, ' ', precision));
            continue;
        }
        let is_known = !layout.contains(if matches!(kind, 'd' | 'x' | 'X' | 'o') { '.' } else { '#' });
        if !is_known {
            return Err(refuse(&format!("cannot write `%{layout}{kind}`")));
        }
        out.push_str(&format_filter(FormatStyle::Printf, &format!("%{layout}{kind}"), &[value])?);
    }
    if next < positional.len() {
        return Err(refuse(&format!("expected {next} arguments, got {}", positional.len())));
    }
    out.push_str(rest);
    Ok(out)
}
