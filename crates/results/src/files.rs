//! JSON and JSON lines of this schema: read with the line in the error, written whole.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use smpo_files::{FileError, WholeFile, write_whole};

use crate::SCHEMA_VERSION;

/// Bytes of lines that are written at a time.
const PART: usize = 1 << 16;

/// An error of reading or writing a file of this schema.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// I/O error.
    #[error(transparent)]
    Io(#[from] FileError),
    /// Not the JSON this schema expects.
    #[error("{}:{line}: not a valid {what}: {}", path.display(), smpo_suggest::of_one_line(&source.to_string()))]
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
    let mut rows = Vec::new();
    for_each_jsonl(path, what, |row| rows.push(row))?;
    Ok(rows)
}

/// [`read_jsonl`] of a file whose rows are not kept.
///
/// # Errors
/// As [`read_jsonl`].
pub fn for_each_jsonl<T: DeserializeOwned>(
    path: &Path,
    what: &'static str,
    mut take: impl FnMut(T),
) -> Result<(), Error> {
    for line in lines(path)? {
        let (number, text) = line?;
        take(parse_line(path, number, what, &text)?);
    }
    Ok(())
}

/// The lines of a file that are not blank, each with its number.
///
/// # Errors
/// When the file cannot be opened; each line, when it cannot be read.
pub fn lines(path: &Path) -> Result<impl Iterator<Item = Result<(usize, String), Error>>, Error> {
    let file = fs::File::open(path).map_err(FileError::at(path, "open"))?;
    let lines = BufReader::new(file).lines().enumerate();
    let read = move |(index, line): (usize, std::io::Result<String>)| match line {
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => Some(Ok((index + 1, text))),
        Err(error) => Some(Err(FileError::at(path, "read")(error).into())),
    };
    Ok(lines.filter_map(read))
}

/// One line of a file.
///
/// # Errors
/// As [`read_jsonl`].
pub fn parse_line<T: DeserializeOwned>(path: &Path, line: usize, what: &'static str, text: &str) -> Result<T, Error> {
    check_schema(path, line, text)?;
    serde_json::from_str(text).map_err(|source| Error::Parse { path: path.to_owned(), line, what, source })
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
    write_each_jsonl(path, what, rows.iter().map(Ok))
}

/// [`write_jsonl`] of rows that are made one by one.
///
/// # Errors
/// When the file cannot be written; the error of a row. The path then holds what it held before.
pub fn write_each_jsonl<T: Serialize>(
    path: &Path,
    what: &'static str,
    rows: impl Iterator<Item = Result<T, Error>>,
) -> Result<(), Error> {
    let mut file = WholeFile::create_with_dirs(path)?;
    let mut text = String::with_capacity(PART);
    for row in rows {
        text.push_str(&to_json(path, what, &row?, false)?);
        text.push('\n');
        if text.len() >= PART {
            file.write_all(text.as_bytes()).map_err(FileError::at(path, "write"))?;
            text.clear();
        }
    }
    file.write_all(text.as_bytes()).map_err(FileError::at(path, "write"))?;
    Ok(file.commit()?)
}
