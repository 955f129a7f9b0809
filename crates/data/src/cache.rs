//! Data files as tokens on disk, under the hash of everything that shapes them.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use smpo_files::{hex, sha256_file};
use smpo_tokenizer::ChatTokenizer;

use crate::columns::Columns;
use crate::preparation::Preparation;

/// Changes when the same file and tokenizer would give other entries than an earlier release: other ids, ids of records,
/// findings, or another format of a line.
const FORMAT: &str = "smpo tokens 10";

/// A folder of tokenised data files. The name of an entry is the hash of the data file's bytes, the tokenizer, the chat
/// template and the terminators, so a stale one is never found. Its lines are the rows of the data file as token ids with
/// their findings; the last line is the SHA-256 of those before it, so a damaged one is never used. Files whose template
/// writes the date are not cached.
#[derive(Debug, Clone)]
pub struct TokenCache {
    dir: PathBuf,
}

/// Bytes of the last line: 64 hexadecimal digits and a line feed.
const SEAL_BYTES: u64 = 65;

impl TokenCache {
    /// A cache in a folder, which is created by the first entry.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of the entry of a data file.
    ///
    /// # Errors
    /// When the data file cannot be read.
    pub(crate) fn entry(
        &self,
        file: &Path,
        tokenizer_fingerprint: &str,
        preparation: &Preparation,
        columns: &Columns,
    ) -> io::Result<PathBuf> {
        let content = sha256_file(file).map_err(|error| error.source)?;
        let mut hash = Sha256::new();
        let parts =
            [FORMAT, env!("CARGO_PKG_VERSION"), tokenizer_fingerprint, &preparation.key(), &content, &columns.key()];
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Ok(self.dir.join(format!("{}.jsonl", hex(&hash.finalize()))))
    }
}

/// True if the tokens of a template's conversations are the same on every day.
pub(crate) fn is_cacheable(tokenizer: &ChatTokenizer) -> bool {
    !tokenizer.template().source().contains("strftime_now")
}

/// The last line of an entry, given the hash of the lines before it.
pub(crate) fn seal(hash: Sha256) -> String {
    let mut seal = hex(&hash.finalize());
    seal.push('\n');
    seal
}

/// Opens an entry that is whole for reading its lines; any other counts as absent.
pub(crate) fn open_entry(path: &Path) -> Option<BufReader<io::Take<File>>> {
    let mut file = File::open(path).ok()?;
    let lines = file.metadata().ok()?.len().checked_sub(SEAL_BYTES)?;
    let mut hash = Sha256::new();
    io::copy(&mut file.by_ref().take(lines), &mut hash).ok()?;
    let mut found = String::new();
    file.read_to_string(&mut found).ok()?;
    if found != seal(hash) {
        return None;
    }
    file.seek(SeekFrom::Start(0)).ok()?;
    Some(BufReader::with_capacity(1 << 16, file.take(lines)))
}
