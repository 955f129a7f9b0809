//! Records from a file, one at a time.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::lines::RawRows;
use crate::parquet_rows::{MAGIC, ParquetRows};
use crate::read_error::{Location, Problem, ReadError};
use crate::record::{PreferencePair, Record};
use crate::shape;
use crate::training_row::TrainingRow;

/// A record and the place it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<T> {
    /// Where it begins.
    pub location: Location,
    /// What it holds.
    pub record: T,
}

/// The records of a file in order. After an error in a row the next row follows; after an error of the file
/// nothing does.
pub struct Records {
    rows: Source,
}

enum Source {
    Text(RawRows),
    Parquet(ParquetRows),
}

/// Opens a JSONL or JSON file, gzipped or not, or a Parquet file (told by its first bytes, not by its name), for
/// reading one record at a time: memory holds one row, however large the file.
///
/// Rows may hold an explicit prompt (`prompt`, `chosen`, `rejected` as texts, messages or lists of messages), whole
/// conversations in `chosen` and `rejected` that share their beginning, HH-RLHF transcripts, `messages` or
/// `conversation` for SFT, `prompt` and `completion`, and the same with `label` (KTO).
///
/// # Errors
/// When the file cannot be opened.
pub fn records(path: impl AsRef<Path>) -> Result<Records, ReadError> {
    let path: Arc<Path> = path.as_ref().into();
    let rows = match parquet(&path)? {
        Some(file) => Source::Parquet(ParquetRows::open(file, path)?),
        None => Source::Text(RawRows::open(&path)?),
    };
    Ok(Records { rows })
}

/// The file, where it is Parquet.
fn parquet(path: &Arc<Path>) -> Result<Option<File>, ReadError> {
    let fail = |error| ReadError { location: Location { path: path.clone(), line: 0 }, problem: Problem::Io(error) };
    let metadata = std::fs::metadata(path).map_err(fail)?;
    if !metadata.is_file() {
        // a pipe cannot be looked into without taking from it, and Parquet has to be read from its end
        return Ok(None);
    }
    let mut file = File::open(path).map_err(fail)?;
    let mut start = Vec::new();
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut start).map_err(fail)?;
    file.rewind().map_err(fail)?;
    Ok((start == MAGIC).then_some(file))
}

/// Rows of a file that are not blank, readable or not, without looking into them; 0 for a pipe, which would be used up.
///
/// # Errors
/// When the file cannot be opened.
pub fn count_rows(path: impl AsRef<Path>) -> Result<u64, ReadError> {
    let path: Arc<Path> = path.as_ref().into();
    if let Some(file) = parquet(&path)? {
        return ParquetRows::count(file, path);
    }
    if std::fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
        return Ok(0);
    }
    let mut rows = RawRows::open(&path)?;
    let mut count = 0;
    while let Some(row) = rows.next() {
        count += u64::from(row.as_ref().is_ok() || row.is_err_and(|error| error.is_row()));
    }
    Ok(count)
}

impl Iterator for Records {
    type Item = Result<Row<Record>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (location, record) = match &mut self.rows {
            Source::Text(rows) => match rows.next()? {
                Ok((location, bytes)) => (location, parse(bytes)),
                Err(error) => return Some(Err(error)),
            },
            Source::Parquet(rows) => match rows.next()? {
                Ok((location, row)) => (location, shape::record(&row)),
                Err(error) => return Some(Err(error)),
            },
        };
        Some(match record {
            Ok(record) => Ok(Row { location, record }),
            Err(problem) => Err(ReadError { location, problem }),
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Record, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        Problem::NotUtf8 { byte: bytes[offset], offset }
    })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(row)) => shape::record(&row),
        Ok(other) => Err(Problem::NotAnObject { got: shape::kind(&other) }),
        Err(error) => Err(Problem::NotJson { message: error.to_string() }),
    }
}

/// All rows of a file that an objective trains on, with their places.
///
/// # Errors
/// At the first row that is none.
pub fn read<T: TrainingRow>(path: impl AsRef<Path>) -> Result<Vec<Row<T>>, ReadError> {
    let mut rows = Vec::new();
    for row in records(path)? {
        rows.extend(training_rows(row?)?);
    }
    Ok(rows)
}

/// The rows that a record gives, each with the record's place.
pub(crate) fn training_rows<T: TrainingRow>(row: Row<Record>) -> Result<impl Iterator<Item = Row<T>>, ReadError> {
    let Row { location, record } = row;
    match T::from_record(record) {
        Ok(records) => Ok(records.into_iter().map(move |record| Row { location: location.clone(), record })),
        Err(other) => {
            Err(ReadError { location, problem: Problem::WrongKind { expected: T::EXPECTED, got: other.kind() } })
        }
    }
}

/// All preference pairs of a file.
///
/// # Errors
/// At the first row that is not one.
pub fn read_pairs(path: impl AsRef<Path>) -> Result<Vec<PreferencePair>, ReadError> {
    Ok(read(path)?.into_iter().map(|row| row.record).collect())
}
