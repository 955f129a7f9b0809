//! JSON objects with their lines: one a line, the elements of one array, or whole documents.
//!
//! Text that is not quite text is no reason to lose a file: bytes that are no UTF-8 and escapes of lone surrogates
//! (Python writes them) become U+FFFD, which `broken_rate` then counts; a file in another encoding altogether is
//! refused. Numbers that only Python writes, such as `NaN`, are null.

mod encoding;
mod fields;
mod lines;

use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;

use serde_json::{Map, Value};
use smpo_chat::json_kind;
use smpo_files::{TextFile, strict_json};

use self::lines::Lines;

pub(crate) use fields::{count, error_text, first, given, list, text};

use crate::input_error::InputError;

/// The fields of one row.
pub type Row = Map<String, Value>;

/// Field of an answer that a text-generation pipeline of transformers returns.
const GENERATED: &str = "generated_text";

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

/// A file of rows as it can be read.
pub(crate) enum Layout<'a> {
    /// One object a line: row by row.
    Lines(Box<RowLines<'a>>),
    /// Anything else: all rows at once.
    Whole(Rows),
}

/// Opens a file; of one that has not one object a line, reads it.
///
/// # Errors
/// [`InputError`]: it cannot be read, is in another encoding or is no JSON.
pub(crate) fn open(path: &Path) -> Result<Layout<'_>, InputError> {
    let file = TextFile::open(path).map_err(|error| InputError::Io { path: path.to_owned(), source: error.source })?;
    layout(Lines::new(path, Box::new(file)))
}

/// [`open`] of a file's bytes.
///
/// # Errors
/// As [`open`].
pub(crate) fn of_bytes(path: &Path, bytes: Vec<u8>) -> Result<Layout<'_>, InputError> {
    layout(Lines::new(path, Box::new(Cursor::new(bytes))))
}

fn layout(mut lines: Lines<'_>) -> Result<Layout<'_>, InputError> {
    let mut text = String::new();
    while let Some((number, line)) = lines.next()? {
        if line.trim_start().starts_with('{')
            && let Ok(first) = parse(&line)
        {
            return Ok(Layout::Lines(Box::new(RowLines { lines, first: Some((number, first)) })));
        }
        let is_blank = line.trim().is_empty();
        text = if text.is_empty() { line } else { text + &line };
        if !is_blank {
            break;
        }
    }
    while let Some((_, line)) = lines.next()? {
        text.push_str(&line);
    }
    let path = lines.path;
    let (sha256, damage) = lines.finish()?;
    Ok(Layout::Whole(Rows { rows: rows(path, &text)?, sha256, damage }))
}

/// The rows of a file with one object a line.
pub(crate) struct RowLines<'a> {
    lines: Lines<'a>,
    first: Option<(usize, Value)>,
}

impl RowLines<'_> {
    /// The next row with its line.
    ///
    /// # Errors
    /// [`InputError`]: the file cannot be read, or the line is no JSON object.
    pub fn next(&mut self) -> Result<Option<(usize, Row)>, InputError> {
        let path = self.lines.path;
        if let Some((number, first)) = self.first.take() {
            return object(path, number, first).map(Some);
        }
        while let Some((number, line)) = self.lines.next()? {
            if !line.trim().is_empty() {
                let line = line.strip_suffix('\n').unwrap_or(&line);
                let value = parse(line).map_err(|error| not_json(path, number, &error))?;
                return object(path, number, value).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads what is left: SHA-256 of the whole text, and the remark on its damage. Its errors come before those of any
    /// row.
    ///
    /// # Errors
    /// [`InputError`]: the file cannot be read, or is in another encoding.
    pub fn finish(self) -> Result<(String, Option<String>), InputError> {
        self.lines.finish()
    }
}

/// All rows of a text; blank lines are skipped, an empty one is an error.
fn rows(path: &Path, text: &str) -> Result<Vec<(usize, Row)>, InputError> {
    let rows = match text.trim_start().chars().next() {
        None => Vec::new(),
        Some('[') => array(path, text)?,
        Some('{' | '"') => json_lines(path, text)?,
        Some(_) => return Err(no_json(path, text)),
    };
    if rows.is_empty() {
        return Err(InputError::whole(path, "expected JSON objects, got an empty file"));
    }
    Ok(rows)
}

/// Calls `take` with each row and its line.
///
/// # Errors
/// Those of the file, those of `take`.
pub(crate) fn each(
    layout: Layout<'_>,
    mut take: impl FnMut(usize, Row) -> Result<(), InputError>,
) -> Result<(), InputError> {
    let mut lines = match layout {
        Layout::Whole(rows) => return rows.rows.into_iter().try_for_each(|(line, row)| take(line, row)),
        Layout::Lines(lines) => lines,
    };
    let taken = std::iter::from_fn(|| lines.next().transpose()).try_for_each(|row| {
        let (line, row) = row?;
        take(line, row)
    });
    lines.finish()?;
    taken
}

/// One JSON value, or what Python writes for one.
fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match strict_json(text) {
        Cow::Owned(strict) => serde_json::from_str(&strict),
        Cow::Borrowed(_) => Err(error),
    })
}

/// One JSON value, as leniently as rows are read.
///
/// # Errors
/// The problem, with its line.
pub(crate) fn value(bytes: &[u8]) -> Result<Value, String> {
    parse(&String::from_utf8_lossy(bytes)).map_err(|error| format!("expected JSON: {error}"))
}

fn json_lines(path: &Path, text: &str) -> Result<Vec<(usize, Row)>, InputError> {
    let mut rows = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match parse(line) {
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
    let text = strict_json(text);
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

/// The lines of elements are lost in an array: their numbers stand in. An array a line is a row each.
fn array(path: &Path, text: &str) -> Result<Vec<(usize, Row)>, InputError> {
    match parse(text) {
        Ok(Value::Array(values)) => {
            values.into_iter().enumerate().map(|(index, value)| object(path, index + 1, value)).collect()
        }
        Ok(_) => Ok(Vec::new()),
        Err(_) if text.lines().next().is_some_and(|line| parse(line).is_ok()) => json_lines(path, text),
        Err(error) => Err(InputError::line(path, error.line().max(1), format!("expected a JSON array: {error}"))),
    }
}

fn object(path: &Path, line: usize, value: Value) -> Result<(usize, Row), InputError> {
    match value {
        Value::Object(mut row) => {
            // A chat pipeline's whole conversation.
            let is_turn = |turn: &Value| turn.get("role").is_some();
            if row.get(GENERATED).and_then(Value::as_array).is_some_and(|turns| turns.iter().all(is_turn))
                && let Some(turns) = row.remove(GENERATED)
            {
                row.insert("messages".to_owned(), turns);
            }
            Ok((line, row))
        }
        Value::Array(answers)
            if !answers.is_empty() && answers.iter().all(|answer| answer.get(GENERATED).is_some()) =>
        {
            pipeline(path, line, answers)
        }
        other => Err(InputError::line(path, line, format!("expected a JSON object, got {}", json_kind(&other)))),
    }
}

/// The answers to one prompt, as a text-generation pipeline of transformers returns them, in one row.
fn pipeline(path: &Path, line: usize, mut answers: Vec<Value>) -> Result<(usize, Row), InputError> {
    if answers.len() == 1 {
        return object(path, line, answers.swap_remove(0));
    }
    let texts: Vec<Value> = answers.into_iter().map(|mut answer| answer[GENERATED].take()).collect();
    if !texts.iter().all(Value::is_string) {
        let problem = format!("`{GENERATED}`: expected texts in a list of several answers to one prompt");
        return Err(InputError::line(path, line, problem));
    }
    Ok((line, Row::from_iter([(GENERATED.to_owned(), Value::Array(texts))])))
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
