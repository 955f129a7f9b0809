//! Tokenised rows kept on disk under the hash of everything that shaped them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::{
    Example, PreferencePair, Record, TokenizedExample, TokenizedPair, TokenizedUnpaired, UnpairedExample,
};
use crate::tokenize::{tokenize_examples, tokenize_pairs, tokenize_unpaired};
use crate::{ChatTokenizer, EncodeError};

/// Changes when the same text and tokenizer would give other ids than an earlier release gave.
const FORMAT: &str = "smpo tokens 1";

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
    pub rows: Vec<Result<T, EncodeError>>,
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

    /// Pairs as tokens: found, or made and kept when every row could be tokenised. `done` is called after each row made.
    pub fn pairs(
        &self,
        tokenizer: &ChatTokenizer,
        pairs: &[PreferencePair],
        done: &(dyn Fn() + Sync),
    ) -> Cached<TokenizedPair> {
        let records = pairs.iter().cloned().map(Record::Pair);
        self.take(tokenizer, records, || tokenize_pairs(tokenizer, pairs, done))
    }

    /// SFT examples as tokens, as [`TokenCache::pairs`].
    pub fn examples(
        &self,
        tokenizer: &ChatTokenizer,
        examples: &[Example],
        done: &(dyn Fn() + Sync),
    ) -> Cached<TokenizedExample> {
        let records = examples.iter().cloned().map(Record::Example);
        self.take(tokenizer, records, || tokenize_examples(tokenizer, examples, done))
    }

    /// Labelled completions as tokens, as [`TokenCache::pairs`].
    pub fn unpaired(
        &self,
        tokenizer: &ChatTokenizer,
        rows: &[UnpairedExample],
        done: &(dyn Fn() + Sync),
    ) -> Cached<TokenizedUnpaired> {
        let records = rows.iter().cloned().map(Record::Unpaired);
        self.take(tokenizer, records, || tokenize_unpaired(tokenizer, rows, done))
    }

    fn take<T: Serialize + DeserializeOwned>(
        &self,
        tokenizer: &ChatTokenizer,
        records: impl Iterator<Item = Record>,
        make: impl FnOnce() -> Vec<Result<T, EncodeError>>,
    ) -> Cached<T> {
        if tokenizer.template().source().contains("strftime_now") {
            return Cached { rows: make(), found: false, not_kept: None };
        }
        let path = self.dir.join(format!("{}.jsonl", key(tokenizer, records)));
        if let Some(rows) = read(&path) {
            return Cached { rows: rows.into_iter().map(Ok).collect(), found: true, not_kept: None };
        }
        let rows = make();
        let good: Option<Vec<&T>> = rows.iter().map(|row| row.as_ref().ok()).collect();
        let not_kept = good.and_then(|rows| self.keep(&path, &rows).err());
        Cached { rows, found: false, not_kept }
    }

    /// Written beside its place, synced and renamed: a file with the final name is whole.
    fn keep<T: Serialize>(&self, path: &Path, rows: &[&T]) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let kept = write(&partial, rows).and_then(|()| std::fs::rename(&partial, path));
        if kept.is_err() {
            // what is left of it is of no use; the first error is the one to tell
            let _ = std::fs::remove_file(&partial);
        }
        kept
    }
}

/// The last line: how many rows there are, and the hash of their bytes.
#[derive(Serialize, Deserialize)]
struct Seal {
    rows: usize,
    sha256: String,
}

fn write<T: Serialize>(path: &Path, rows: &[&T]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut hash = Sha256::new();
    let mut line = Vec::new();
    for row in rows {
        line.clear();
        serde_json::to_writer(&mut line, row)?;
        line.push(b'\n');
        hash.update(&line);
        file.write_all(&line)?;
    }
    let seal = Seal { rows: rows.len(), sha256: hex(hash) };
    serde_json::to_writer(&mut file, &seal)?;
    file.write_all(b"\n")?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// The rows of a file that is whole; anything else counts as absent.
fn read<T: DeserializeOwned>(path: &Path) -> Option<Vec<T>> {
    let mut file = BufReader::new(File::open(path).ok()?);
    let mut hash = Sha256::new();
    let mut rows = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        file.read_until(b'\n', &mut line).ok()?;
        match serde_json::from_slice::<Seal>(&line) {
            Ok(seal) => {
                let whole = seal.rows == rows.len() && seal.sha256 == hex(hash);
                return whole.then_some(rows);
            }
            Err(_) => {
                rows.push(serde_json::from_slice(&line).ok()?);
                hash.update(&line);
            }
        }
    }
}

fn key(tokenizer: &ChatTokenizer, records: impl Iterator<Item = Record>) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(FORMAT);
    add(&tokenizer.fingerprint());
    for record in records {
        add(record.kind());
        add(record.id());
        add(&record.content_hash());
    }
    hex(hash)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
