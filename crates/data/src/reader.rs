//! Records from a file, one at a time.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use serde_json::{Map, Value};
use smpo_chat::json_kind;

use crate::columns::Columns;
use crate::lenient;
use crate::lines::RawRows;
use crate::parquet_rows::{MAGIC, ParquetRows};
use crate::preparation::Reading;
use crate::read_error::{Location, Problem, ReadError};
use crate::record::{PreferencePair, Record};
use crate::row::RowKind;
use crate::shape::{self, Remarks};
use crate::sources::{Purpose, source_files};

/// Characters of a row that is not JSON which its error quotes.
const BEGINNING: usize = 30;

/// A record with the place where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// File and line.
    pub location: Location,
    /// The record.
    pub record: T,
    /// Remarks on its reading.
    pub remarks: Remarks,
}

/// The records of a source in order. After an error in a row the next row follows; after an error of a file nothing
/// does.
pub struct Records {
    files: Files,
    layout: Layout,
}

/// Columns and reading of rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    /// Names of columns.
    pub columns: Columns,
    /// The way to read a row that can be several things.
    pub reading: Reading,
}

impl Layout {
    fn record(&self, row: Map<String, Value>) -> Result<(Record, Remarks), Problem> {
        let row = self.columns.rename(row);
        match self.reading {
            Reading::Answers => shape::record(row),
            Reading::Labels => shape::record_with_labels(row),
        }
    }
}

/// Open files, one after the other.
pub(crate) struct Files {
    rows: Source,
    /// Files after this one.
    next: vec::IntoIter<PathBuf>,
    /// Files before this one.
    before: usize,
}

/// The rows of one file.
pub(crate) enum Source {
    Text(RawRows),
    Parquet(ParquetRows),
}

/// Opens a JSONL or JSON file, packed and encoded as [`smpo_files::TextFile`] reads it, or a Parquet file (recognised by
/// its first bytes, not by its name), or the files of a directory or a pattern ([`source_files`]), for reading one record at
/// a time: memory holds one row, however large the file. docs/data.md lists the layouts of rows.
///
/// # Errors
/// When there is no file, or the first cannot be opened.
pub fn records(source: impl AsRef<Path>) -> Result<Records, ReadError> {
    records_of(source_files(source, Purpose::Train)?)
}

/// [`records`], of which those that are neither pairs nor groups are read as texts and conversations with labels, or to be
/// given some.
///
/// # Errors
/// As for [`records`].
pub fn records_with_labels(source: impl AsRef<Path>) -> Result<Records, ReadError> {
    records_with(source, Layout { reading: Reading::Labels, ..Layout::default() })
}

/// [`records`] in a layout.
pub(crate) fn records_with(source: impl AsRef<Path>, layout: Layout) -> Result<Records, ReadError> {
    records_for(source, Purpose::Train, layout)
}

/// [`records`] for a purpose, in a layout.
pub(crate) fn records_for(source: impl AsRef<Path>, purpose: Purpose, layout: Layout) -> Result<Records, ReadError> {
    Ok(Records { layout, ..records_of(source_files(source, purpose)?)? })
}

/// The records of files, one after the other.
pub(crate) fn records_of(files: Vec<PathBuf>) -> Result<Records, ReadError> {
    Ok(Records { files: Files::open(files)?, layout: Layout::default() })
}

impl Records {
    /// Share of the files that has been read, 0 to 1; 0 for a pipe.
    pub fn share(&self) -> f64 {
        self.files.share()
    }
}

impl Files {
    /// Opens the first.
    pub fn open(files: Vec<PathBuf>) -> Result<Self, ReadError> {
        let mut next = files.into_iter();
        let first = next.next().unwrap_or_default();
        Ok(Files { rows: Source::open(first.into())?, next, before: 0 })
    }

    fn share(&self) -> f64 {
        let share = match &self.rows {
            Source::Text(rows) => rows.share(),
            Source::Parquet(rows) => rows.share(),
        };
        (self.before as f64 + share) / (self.before + 1 + self.next.len()) as f64
    }

    /// The next row, as `read` takes it from a file. Nothing follows an error of a file.
    pub fn next_row<T>(
        &mut self,
        read: impl Fn(&mut Source) -> Option<Result<T, ReadError>>,
    ) -> Option<Result<T, ReadError>> {
        loop {
            if let Some(row) = read(&mut self.rows) {
                if row.as_ref().is_err_and(|error| !error.is_row()) {
                    self.next = Vec::new().into_iter();
                }
                return Some(row);
            }
            match Source::open(self.next.next()?.into()) {
                Ok(rows) => self.rows = rows,
                Err(error) => {
                    self.next = Vec::new().into_iter();
                    return Some(Err(error));
                }
            }
            self.before += 1;
        }
    }
}

impl Source {
    fn open(path: Arc<Path>) -> Result<Self, ReadError> {
        Ok(match open(&path)? {
            Opened::Text(file) => Source::Text(RawRows::new(file, path)?),
            Opened::Parquet(file) => Source::Parquet(ParquetRows::open(file, path)?),
        })
    }

    /// The next row under its own columns, empty for one that is no JSON object.
    pub fn next_columns(&mut self) -> Option<Result<Map<String, Value>, ReadError>> {
        Some(match self {
            Source::Text(rows) => rows.next()?.map(|(_, bytes)| serde_json::from_slice(bytes).unwrap_or_default()),
            Source::Parquet(rows) => rows.next()?.map(|(_, row)| row),
        })
    }

    /// The next record with its place.
    fn next(&mut self, layout: &Layout) -> Option<Result<Located<Record>, ReadError>> {
        let (location, record) = match self {
            Source::Text(rows) => match rows.next()? {
                Ok((location, bytes)) => (location, parse(bytes, layout)),
                Err(error) => return Some(Err(error)),
            },
            Source::Parquet(rows) => match rows.next()? {
                Ok((location, row)) => (location, layout.record(row)),
                Err(error) => return Some(Err(error)),
            },
        };
        Some(match record {
            Ok((record, remarks)) => Ok(Located { location, record, remarks }),
            Err(problem) => Err(ReadError { location, problem }),
        })
    }
}

/// An open file by its format.
enum Opened {
    Text(File),
    Parquet(File),
}

/// Formats that are refused by their first bytes, with their names.
const FOREIGN: [(&[u8], &str); 5] = [
    (b"ARROW1", "an Arrow file; save it as Parquet or JSON lines: `ds.to_parquet(FILE)`, `ds.to_json(FILE)`"),
    (
        b"\xff\xff\xff\xff",
        "an Arrow stream; save it as Parquet or JSON lines: `ds.to_parquet(FILE)`, `ds.to_json(FILE)`",
    ),
    (b"BZh", "a bzip2 file; unpack it, or pack it with gzip or zstd"),
    (b"\xfd7zXZ", "an xz file; unpack it, or pack it with gzip or zstd"),
    (b"SQLite", "a database; export its rows as JSON lines"),
];
/// Bytes that tell formats apart.
const START: u64 = 6;

fn open(path: &Arc<Path>) -> Result<Opened, ReadError> {
    let fail = |problem| ReadError { location: Location { path: path.clone(), line: 0 }, problem };
    let io = |error| fail(Problem::Io(error));
    let mut file = File::open(path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        // a pipe cannot be looked into without taking from it, and Parquet has to be read from its end
        return Ok(Opened::Text(file));
    }
    let mut start = Vec::new();
    file.by_ref().take(START).read_to_end(&mut start).map_err(io)?;
    file.rewind().map_err(io)?;
    if let Some((_, got)) = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(fail(Problem::NotRows { got: (*got).to_string() }));
    }
    Ok(if start.starts_with(MAGIC) { Opened::Parquet(file) } else { Opened::Text(file) })
}

/// Number of rows of a source that are not blank, readable or not, without parsing them; 0 for a pipe, which would be
/// used up.
///
/// # Errors
/// When a file cannot be opened.
pub fn count_rows(source: impl AsRef<Path>) -> Result<u64, ReadError> {
    let mut count = 0;
    for file in source_files(source, Purpose::Train)? {
        count += count_file(file.into())?;
    }
    Ok(count)
}

fn count_file(path: Arc<Path>) -> Result<u64, ReadError> {
    if std::fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
        return Ok(0);
    }
    let mut rows = match open(&path)? {
        Opened::Text(file) => RawRows::new(file, path)?,
        Opened::Parquet(file) => return ParquetRows::count(file, path),
    };
    let mut count = 0;
    while let Some(row) = rows.next() {
        count += u64::from(row.as_ref().is_ok() || row.is_err_and(|error| error.is_row()));
    }
    Ok(count)
}

impl Iterator for Records {
    type Item = Result<Located<Record>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { files, layout } = self;
        files.next_row(|rows| rows.next(layout))
    }
}

/// The record of a row.
pub(crate) fn parse(bytes: &[u8], layout: &Layout) -> Result<(Record, Remarks), Problem> {
    let text = utf8(bytes)?;
    match serde_json::from_str(text) {
        Ok(Value::Object(row)) => layout.record(row),
        Ok(other) => Err(Problem::NotAnObject { got: json_kind(&other) }),
        Err(error) => match lenient::with_non_finite(text).map(|text| serde_json::from_str(&text)) {
            Some(Ok(Value::Object(row))) => finite(layout.record(row)?),
            _ => Err(not_json(text, &error)),
        },
    }
}

/// The text of a row.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        Problem::NotUtf8 { byte: bytes[offset], offset }
    })
}

/// Refuses a record that holds a number that is not finite.
fn finite((record, remarks): (Record, Remarks)) -> Result<(Record, Remarks), Problem> {
    let whole = serde_json::to_value(&record).unwrap_or_default();
    let fields = whole.as_object().into_iter().flatten();
    match fields.into_iter().find_map(|(field, value)| lenient::find_non_finite(value, field)) {
        Some((field, got)) => Err(Problem::WrongType { field, expected: "a finite number", got }),
        None => Ok((record, remarks)),
    }
}

pub(crate) fn not_json(text: &str, error: &serde_json::Error) -> Problem {
    let begins = text.trim_start();
    let message = smpo_suggest::of_one_line(&error.to_string());
    if begins.starts_with(['{', '[']) {
        return Problem::NotJson { message };
    }
    let begin: String = begins.chars().take(BEGINNING).collect();
    Problem::NotJson {
        message: format!("{message}; the row begins with {begin:?}, not with `{{`: CSV and plain text are not read"),
    }
}

/// All preference pairs of a file.
///
/// # Errors
/// At the first row that is not one.
pub fn read_pairs(path: impl AsRef<Path>) -> Result<Vec<PreferencePair>, ReadError> {
    let pair = |row: Result<Located<Record>, ReadError>| {
        let Located { location, record, .. } = row?;
        match record {
            Record::Pair(pair) => Ok(pair),
            other => {
                let (expected, got) = (RowKind::Pairs.expected(), other.kind().name());
                Err(ReadError { location, problem: Problem::WrongKind { expected, got } })
            }
        }
    };
    records(path)?.map(pair).collect()
}
