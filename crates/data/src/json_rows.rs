//! Rows as their file has them, for what passes them on unchanged.

use std::path::PathBuf;

use serde_json::{Map, Value};
use smpo_chat::json_kind;

use crate::lenient;
use crate::read_error::{Location, Problem, ReadError};
use crate::reader::{Files, Layout, Source, not_json, parse, utf8};
use crate::record::Record;

/// One row: a JSON object on one line, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonRow {
    /// File and line.
    pub location: Location,
    /// The text without a line break. Nothing has checked it yet.
    pub json: Vec<u8>,
}

impl JsonRow {
    /// The record that the row holds.
    ///
    /// # Errors
    /// As [`crate::records`].
    pub fn record(&self) -> Result<Record, ReadError> {
        parse(&self.json, &Layout::default()).map(|(record, _)| record).map_err(|problem| self.error(problem))
    }

    /// The columns of the row.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn columns(&self) -> Result<Map<String, Value>, ReadError> {
        let columns = || {
            let text = utf8(&self.json)?;
            let value = match serde_json::from_str(text) {
                Ok(value) => value,
                Err(error) => lenient::with_non_finite(text)
                    .and_then(|text| serde_json::from_str(&text).ok())
                    .ok_or_else(|| not_json(text, &error))?,
            };
            match value {
                Value::Object(columns) => Ok(columns),
                other => Err(Problem::NotAnObject { got: json_kind(&other) }),
            }
        };
        columns().map_err(|problem| self.error(problem))
    }

    /// A problem of this row.
    pub fn error(&self, problem: Problem) -> ReadError {
        ReadError { location: self.location.clone(), problem }
    }
}

/// The rows of files, one at a time.
pub struct JsonRows(Files);

/// Opens files, whose rows are then read one at a time, as [`crate::records`] does.
///
/// # Errors
/// When the first cannot be opened.
pub fn json_rows(files: Vec<PathBuf>) -> Result<JsonRows, ReadError> {
    Files::open(files).map(JsonRows)
}

impl Iterator for JsonRows {
    type Item = Result<JsonRow, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_row(next)
    }
}

fn next(source: &mut Source) -> Option<Result<JsonRow, ReadError>> {
    Some(match source {
        Source::Text(rows) => rows.next()?.map(|(location, bytes)| {
            let mut json = bytes.trim_ascii().to_vec();
            // an element of a list may go over several lines; inside its strings there is no line break
            json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
            JsonRow { location, json }
        }),
        Source::Parquet(rows) => rows.next()?.map(|(location, row)| {
            let json = Value::Object(row).to_string().into_bytes();
            JsonRow { location, json }
        }),
    })
}
