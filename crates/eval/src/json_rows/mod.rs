//! JSON objects with their lines: one a line, the elements of one array, or whole documents.
//!
//! Text that is not quite text is no reason to lose a file: bytes that are no UTF-8 and escapes of lone surrogates
//! (Python writes them) become U+FFFD, which `broken_rate` then counts; a file in another encoding altogether is
//! refused. Numbers that only Python writes, such as `NaN`, are null.

mod encoding;
mod fields;
mod lenient;

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};
use smpo_chat::json_kind;
use smpo_files::{TextFile, sha256};

pub(crate) use fields::{count, error_text, first, given, list, text};

use crate::input_error::InputError;

/// The fields of one row.
pub type Row = Map<String, Value>;

/// Characters of a file that is no JSON in a message.
const SHOWN: usize = 40;

/// The rows of a file.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Each with the line it begins on; in an array, with the number of the element.
    pub rows: Vec<(usize, Row)>,
    /// SHA-256 of the text, however it is packed and encoded.
    pub sha256: String,
    /// A remark on bytes that are no UTF-8.
    pub damage: Option<String>,
}

/// The text of a file of rows.
pub(crate) struct Source<'a> {
    path: &'a Path,
    text: String,
    pub sha256: String,
    pub damage: Option<String>,
}

impl<'a> Source<'a> {
    /// Reads a file.
    ///
    /// # Errors
    /// [`InputError`]: it cannot be read, or is in another encoding.
    pub fn read(path: &'a Path) -> Result<Self, InputError> {
        let io = |source| InputError::Io { path: path.to_owned(), source };
        let mut file = TextFile::open(path).map_err(|error| io(error.source))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        Self::of_bytes(path, bytes)
    }

    fn of_bytes(path: &'a Path, bytes: Vec<u8>) -> Result<Self, InputError> {
        let sha256 = sha256(&bytes);
        let (text, damage) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => encoding::replace_damage(error.as_bytes())
                .map_err(|foreign| InputError::line(path, foreign.line, foreign.to_string()))?,
        };
        Ok(Source { path, text, sha256, damage })
    }

    /// The rows, one by one, of a file with one object a line; `None` of another.
    pub fn lines(&self) -> Option<impl Iterator<Item = Result<(usize, Row), InputError>>> {
        let first = self.text.split('\n').find(|line| !line.trim().is_empty())?;
        let is_object = first.trim_start().starts_with('{') && lenient::parse(first).is_ok();
        let numbered = self.text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
        let row = move |(index, line): (usize, &str)| match lenient::parse(line) {
            Ok(value) => object(self.path, index + 1, value),
            Err(error) => Err(not_json(self.path, index + 1, &error)),
        };
        is_object.then(|| numbered.map(row))
    }

    /// All rows; blank lines are skipped, an empty file is an error.
    ///
    /// # Errors
    /// [`InputError`] at the first line that is no JSON object.
    pub fn rows(self) -> Result<Rows, InputError> {
        let Source { path, text, sha256, damage } = self;
        let start = text.trim_start();
        let rows = match start.chars().next() {
            None => Vec::new(),
            Some('[') => array(path, &text)?,
            Some('{' | '"') => lines(path, &text)?,
            Some(_) => return Err(no_json(path, &text)),
        };
        if rows.is_empty() {
            return Err(InputError::whole(path, "expected JSON objects, got an empty file"));
        }
        Ok(Rows { rows, sha256, damage })
    }
}

/// The rows of a file.
///
/// # Errors
/// As [`Source::rows`].
pub(crate) fn read(path: &Path) -> Result<Rows, InputError> {
    Source::read(path)?.rows()
}

/// The rows of a file's bytes.
///
/// # Errors
/// As [`read`].
pub(crate) fn parse(path: &Path, bytes: Vec<u8>) -> Result<Rows, InputError> {
    Source::of_bytes(path, bytes)?.rows()
}

/// One JSON value, as leniently as rows are read.
///
/// # Errors
/// The problem, with its line.
pub(crate) fn value(bytes: &[u8]) -> Result<Value, String> {
    lenient::parse(&String::from_utf8_lossy(bytes)).map_err(|error| format!("expected JSON: {error}"))
}

fn lines(path: &Path, text: &str) -> Result<Vec<(usize, Row)>, InputError> {
    let mut rows = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match lenient::parse(line) {
            Ok(value) => rows.push(object(path, index + 1, value)?),
            // an object that goes on over several lines
            Err(error) if rows.is_empty() && error.is_eof() => return documents(path, text),
            Err(error) => return Err(not_json(path, index + 1, &error)),
        }
    }
    Ok(rows)
}

/// Objects one after the other, each over several lines.
fn documents(path: &Path, text: &str) -> Result<Vec<(usize, Row)>, InputError> {
    let text = lenient::repaired(text);
    let line_at = |offset: usize| smpo_files::line_at(&text, offset);
    let mut rows = Vec::new();
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    loop {
        let rest = &text[values.byte_offset()..];
        let begun = line_at(text.len() - rest.trim_start().len());
        match values.next() {
            None => return Ok(rows),
            Some(Ok(value)) => rows.push(object(path, begun, value)?),
            Some(Err(error)) => return Err(not_json(path, error.line().max(1), &error)),
        }
    }
}

fn not_json(path: &Path, line: usize, error: &serde_json::Error) -> InputError {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    let column = error.column();
    InputError::line(path, line, format!("expected one JSON object a line: {message} (column {column})"))
}

/// The lines of elements are lost in an array: their numbers stand in.
fn array(path: &Path, text: &str) -> Result<Vec<(usize, Row)>, InputError> {
    let value = lenient::parse(text)
        .map_err(|error| InputError::line(path, error.line().max(1), format!("expected a JSON array: {error}")))?;
    let Value::Array(values) = value else { return Ok(Vec::new()) };
    values.into_iter().enumerate().map(|(index, value)| object(path, index + 1, value)).collect()
}

fn object(path: &Path, line: usize, value: Value) -> Result<(usize, Row), InputError> {
    match value {
        Value::Object(row) => Ok((line, row)),
        other => Err(InputError::line(path, line, format!("expected a JSON object, got {}", json_kind(&other)))),
    }
}

fn no_json(path: &Path, text: &str) -> InputError {
    let line = text.lines().position(|line| !line.trim().is_empty()).unwrap_or(0);
    let start: String = text.trim_start().chars().take_while(|c| *c != '\n').take(SHOWN).collect();
    let problem = format!(
        "expected JSON, one object a line or an array of objects, got text that begins with {start:?}; write tables as \
         JSON lines with the fields `prompt` and `completion`"
    );
    InputError::line(path, line + 1, problem)
}
