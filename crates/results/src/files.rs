//! JSON and JSON lines of this schema: read with the line in the error, written whole.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use smpo_files::{FileError, write_whole};

use crate::SCHEMA_VERSION;

/// An error of reading or writing a file of this schema.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// I/O error.
    #[error(transparent)]
    Io(#[from] FileError),
    /// Not the JSON this schema expects.
    #[error("{}:{line}: not a valid {what}: {source}", path.display())]
    Parse {
        /// File.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// Type of the document or line: `run manifest`, `sample`.
        what: &'static str,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// Written by a newer program.
    #[error("{}:{line}: schema version {found} is newer than {SCHEMA_VERSION}, the newest this smpo reads; update smpo", path.display())]
    NewerSchema {
        /// File.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// Schema version of the file.
        found: u64,
    },
}

fn check_schema(path: &Path, line: usize, text: &str) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Version {
        #[serde(default)]
        schema: u64,
    }
    match serde_json::from_str::<Version>(text) {
        Ok(Version { schema }) if schema > u64::from(SCHEMA_VERSION) => {
            Err(Error::NewerSchema { path: path.to_owned(), line, found: schema })
        }
        _ => Ok(()), // the typed parse that follows names what is wrong
    }
}

/// Reads one JSON document. `what` names it in errors ("run manifest").
///
/// # Errors
/// When the file cannot be read, is not such a document, or has a newer schema.
pub fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, Error> {
    let text = fs::read_to_string(path).map_err(FileError::at(path, "read"))?;
    check_schema(path, 1, &text)?;
    serde_json::from_str(&text).map_err(|source| Error::Parse {
        path: path.to_owned(),
        line: source.line().max(1),
        what,
        source,
    })
}

/// Reads one JSON document a line, blank lines skipped. `what` names a line in errors ("sample").
///
/// # Errors
/// When the file cannot be read, a line is not such a document, or has a newer schema.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<Vec<T>, Error> {
    let file = fs::File::open(path).map_err(FileError::at(path, "open"))?;
    let mut rows = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(FileError::at(path, "read"))?;
        if line.trim().is_empty() {
            continue;
        }
        check_schema(path, index + 1, &line)?;
        let row = serde_json::from_str(&line).map_err(|source| Error::Parse {
            path: path.to_owned(),
            line: index + 1,
            what,
            source,
        })?;
        rows.push(row);
    }
    Ok(rows)
}

fn to_json<T: Serialize>(path: &Path, what: &'static str, value: &T, pretty: bool) -> Result<String, Error> {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.map_err(|source| Error::Parse { path: path.to_owned(), line: 1, what, source })
}

/// Writes one JSON document, readable, ending in a newline, whole.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json<T: Serialize>(path: &Path, what: &'static str, value: &T) -> Result<(), Error> {
    let mut text = to_json(path, what, value, true)?;
    text.push('\n');
    Ok(write_whole(path, text.as_bytes())?)
}

/// Writes one JSON document a line, whole.
///
/// # Errors
/// When the file cannot be written.
pub fn write_jsonl<T: Serialize>(path: &Path, what: &'static str, rows: &[T]) -> Result<(), Error> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&to_json(path, what, row, false)?);
        text.push('\n');
    }
    Ok(write_whole(path, text.as_bytes())?)
}
