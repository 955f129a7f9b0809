//! Tokenised rows kept on disk under the hash of everything that shaped them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smpo_files::{FileError, WholeFile, hex};
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

use crate::reader::Row;
use crate::training_row::{TrainingRow, tokenize};

/// Changes when the same text and tokenizer would give other ids than an earlier release gave.
const FORMAT: &str = "smpo tokens 2";

/// A folder of tokenised data sets. A file's name is the hash of the rows' text and order, the tokenizer, the chat
/// template and the terminators, so a stale one is never found, and its last line is the hash of its content, so a
/// damaged one is never believed. Templates that write the date are not cached.
#[derive(Debug, Clone)]
pub struct TokenCache {
    dir: PathBuf,
}

/// Rows as tokens, and whether they were found or made.
#[derive(Debug)]
pub struct Cached<T> {
    /// One result per row, in order.
    pub rows: Vec<Result<T, TokenizerError>>,
    /// Whether the rows were read from the cache.
    pub found: bool,
    /// Why the rows that were made could not be kept; they are good all the same.
    pub not_kept: Option<io::Error>,
}

impl TokenCache {
    /// A cache in a folder, which is made when something is first kept.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Rows as tokens: found, or made and kept. Rows that could not be tokenised are made again, so that their error is
    /// known. `done` is told the rows made so far, and may break off: then there is no result.
    pub fn tokenize<T: TrainingRow>(
        &self,
        tokenizer: &ChatTokenizer,
        rows: &[Row<T>],
        done: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Option<Cached<T::Tokens>> {
        if tokenizer.template().source().contains("strftime_now") {
            return Some(Cached { rows: tokenize(tokenizer, rows, done)?, found: false, not_kept: None });
        }
        let path = self.dir.join(format!("{}.jsonl", key(tokenizer, rows)));
        if let Some(found) = read::<T::Tokens>(&path).filter(|found| found.len() == rows.len()) {
            let again = |row: &Row<T>| row.record.encode(tokenizer);
            let rows = found.into_iter().zip(rows).map(|(tokens, row)| tokens.map_or_else(|| again(row), Ok)).collect();
            return Some(Cached { rows, found: true, not_kept: None });
        }
        let rows = tokenize(tokenizer, rows, done)?;
        let kept: Vec<Option<&T::Tokens>> = rows.iter().map(|row| row.as_ref().ok()).collect();
        let not_kept = write(&path, &kept).err().map(|error| error.source);
        Some(Cached { rows, found: false, not_kept })
    }
}

/// The last line: how many rows there are, and the hash of their bytes.
#[derive(Serialize, Deserialize)]
struct Seal {
    rows: usize,
    sha256: String,
}

fn write<T: Serialize>(path: &Path, rows: &[Option<&T>]) -> Result<(), FileError> {
    let dir = path.parent().unwrap_or(path);
    std::fs::create_dir_all(dir).map_err(FileError::at(dir, "create the directory"))?;
    let mut file = BufWriter::new(WholeFile::create(path)?);
    write_lines(&mut file, rows).map_err(FileError::at(path, "write"))?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error);
    file.map_err(FileError::at(path, "write"))?.commit()
}

fn write_lines<T: Serialize>(file: &mut impl Write, rows: &[Option<&T>]) -> io::Result<()> {
    let mut hash = Sha256::new();
    let mut line = Vec::new();
    for row in rows {
        line.clear();
        serde_json::to_writer(&mut line, row)?;
        line.push(b'\n');
        hash.update(&line);
        file.write_all(&line)?;
    }
    let seal = Seal { rows: rows.len(), sha256: hex(&hash.finalize()) };
    serde_json::to_writer(&mut *file, &seal)?;
    file.write_all(b"\n")
}

/// The rows of a file that is whole, `None` for those that could not be tokenised; any other file counts as absent.
fn read<T: DeserializeOwned>(path: &Path) -> Option<Vec<Option<T>>> {
    let mut file = BufReader::new(File::open(path).ok()?);
    let mut hash = Sha256::new();
    let mut rows = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        file.read_until(b'\n', &mut line).ok()?;
        match serde_json::from_slice::<Seal>(&line) {
            Ok(seal) => {
                let whole = seal.rows == rows.len() && seal.sha256 == hex(&hash.finalize());
                return whole.then_some(rows);
            }
            Err(_) => {
                rows.push(serde_json::from_slice(&line).ok()?);
                hash.update(&line);
            }
        }
    }
}

fn key<T: TrainingRow>(tokenizer: &ChatTokenizer, rows: &[Row<T>]) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(FORMAT);
    add(&tokenizer.fingerprint());
    add(T::EXPECTED);
    for Row { record, .. } in rows {
        add(record.id());
        add(&format!("{:016x}", record.content_hash()));
    }
    hex(&hash.finalize())
}
