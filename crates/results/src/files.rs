//! Reading with the line in the error, writing so that nothing is ever half-written.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::SCHEMA_VERSION;

/// What can go wrong with a file of this schema.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system said no.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// Not the JSON this schema expects.
    #[error("{}:{line}: not a valid {what}: {source}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// What a line or file should hold.
        what: &'static str,
        /// The parser's words.
        source: serde_json::Error,
    },
    /// Written by a newer program.
    #[error("{}:{line}: schema version {found} is newer than {SCHEMA_VERSION}, the newest this smpo reads; update smpo", path.display())]
    NewerSchema {
        /// Which file.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// Its version.
        found: u64,
    },
}

fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, action, source }
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
pub fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, Error> {
    let text = fs::read_to_string(path).map_err(io(path, "read"))?;
    check_schema(path, 1, &text)?;
    serde_json::from_str(&text).map_err(|source| Error::Parse {
        path: path.to_owned(),
        line: source.line().max(1),
        what,
        source,
    })
}

/// Reads one JSON document a line, blank lines skipped. `what` names a line in errors ("sample").
pub fn read_jsonl<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<Vec<T>, Error> {
    let file = fs::File::open(path).map_err(io(path, "open"))?;
    let mut rows = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(io(path, "read"))?;
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

/// Writes a file through a temporary neighbour that is synced and renamed: readers see the old file or the new one.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    fs::create_dir_all(dir).map_err(io(dir, "create the directory"))?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(io(dir, "create a file in"))?;
    file.write_all(bytes).map_err(io(path, "write"))?;
    file.as_file().sync_all().map_err(io(path, "sync"))?;
    make_readable(file.as_file()).map_err(io(path, "set the permissions of"))?;
    file.persist(path).map_err(|error| Error::Io { path: path.to_owned(), action: "replace", source: error.error })?;
    Ok(())
}

/// Temporary files are born private; results are ordinary files.
#[cfg(unix)]
fn make_readable(file: &fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_: &fs::File) -> std::io::Result<()> {
    Ok(())
}

fn to_json<T: Serialize>(path: &Path, what: &'static str, value: &T, pretty: bool) -> Result<String, Error> {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.map_err(|source| Error::Parse { path: path.to_owned(), line: 1, what, source })
}

/// Writes one JSON document, readable, ending in a newline, atomically.
pub fn write_json<T: Serialize>(path: &Path, what: &'static str, value: &T) -> Result<(), Error> {
    let mut text = to_json(path, what, value, true)?;
    text.push('\n');
    write_atomic(path, text.as_bytes())
}

/// Writes one JSON document a line, atomically.
pub fn write_jsonl<T: Serialize>(path: &Path, what: &'static str, rows: &[T]) -> Result<(), Error> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&to_json(path, what, row, false)?);
        text.push('\n');
    }
    write_atomic(path, text.as_bytes())
}

/// SHA-256 of bytes, in lower-case hexadecimal.
pub fn hash_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, read in chunks.
pub fn hash_file(path: &Path) -> Result<String, Error> {
    let mut file = fs::File::open(path).map_err(io(path, "open"))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).map_err(io(path, "read"))?;
    Ok(hex(&hasher.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
