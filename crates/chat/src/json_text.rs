//! Python's `json.dumps` as a template filter: `tojson` as `transformers` defines it
//! (`ensure_ascii=False, indent=None, separators=None, sort_keys=False`, nothing escaped for HTML).

use std::io::{self, Write};

use minijinja::value::{Kwargs, Value as TemplateValue, ValueKind};
use minijinja::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

use crate::python::{text, values};

/// The `tojson` filter.
pub(crate) fn tojson(value: TemplateValue, kwargs: Kwargs) -> Result<TemplateValue, Error> {
    if text::is_too_deep(&value, 0) {
        let expected = format!("tojson: expected a value nested at most {} deep", text::DEEPEST);
        return Err(Error::new(ErrorKind::BadSerialization, expected));
    }
    if let Some(problem) = unwritable(&value) {
        return Err(Error::new(ErrorKind::BadSerialization, format!("tojson: cannot write {problem} as JSON")));
    }
    let indent = match kwargs.get::<Option<TemplateValue>>("indent")? {
        None => None,
        Some(given) => Some(match given.as_str() {
            Some(text) => text.to_string(),
            None => " ".repeat(usize::try_from(given)?.min(64)),
        }),
    };
    let separators = match kwargs.get::<Option<TemplateValue>>("separators")? {
        Some(given) => Some((text_at(&given, 0)?, text_at(&given, 1)?)),
        None => None,
    };
    let ensure_ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;

    let mut value = Value::deserialize(&value)?;
    if sort_keys {
        value.sort_all_objects();
    }
    // json.dumps leaves no blank at the end of a line when it indents
    let (item, key) = separators.unwrap_or_else(|| match indent {
        Some(_) => (",".to_string(), ": ".to_string()),
        None => (", ".to_string(), ": ".to_string()),
    });
    let style = PythonJson { indent, item, key, ensure_ascii, depth: 0, empty: true };
    let mut out = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut out, style))
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "cannot write as JSON").with_source(error))?;
    let text = String::from_utf8(out)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "cannot write as JSON").with_source(error))?;
    Ok(TemplateValue::from(text))
}

/// The first value in another that Python does not write, or writes as no JSON has it.
fn unwritable(value: &TemplateValue) -> Option<String> {
    let mut inner = value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Seq => inner.find_map(|item| unwritable(&item)),
        ValueKind::Iterable if values::is_lazy_list(value) => inner.find_map(|item| unwritable(&item)),
        ValueKind::Map if text::is_engines_own(value) => Some("an object of the engine".into()),
        ValueKind::Map => inner.find_map(|key| match key.kind() {
            ValueKind::String => unwritable(&value.get_item(&key).ok()?),
            kind => Some(format!("a key that is {kind}")),
        }),
        ValueKind::Number if f64::try_from(value.clone()).is_ok_and(|number| !number.is_finite()) => {
            Some(format!("the number {value}"))
        }
        ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::String => None,
        kind => Some(format!("{kind} values")),
    }
}

fn text_at(pair: &TemplateValue, index: usize) -> Result<String, Error> {
    let item = pair.get_item_by_index(index)?;
    item.as_str()
        .map(str::to_string)
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "tojson: separators must be a pair of strings"))
}

/// The layout of `json.dumps`.
struct PythonJson {
    indent: Option<String>,
    item: String,
    key: String,
    ensure_ascii: bool,
    depth: usize,
    empty: bool,
}

impl PythonJson {
    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, mark: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(mark)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, mark: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.line(writer)?;
        }
        self.empty = false;
        writer.write_all(mark)
    }

    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        if let Some(indent) = &self.indent {
            writer.write_all(b"\n")?;
            for _ in 0..self.depth {
                writer.write_all(indent.as_bytes())?;
            }
        }
        Ok(())
    }

    fn separate<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.empty = false;
        self.line(writer)
    }
}

impl Formatter for PythonJson {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(text::float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ensure_ascii {
            return writer.write_all(fragment.as_bytes());
        }
        let mut units = [0u16; 2];
        for c in fragment.chars() {
            if c.is_ascii() {
                writer.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}
