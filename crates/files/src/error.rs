use std::io;
use std::path::{Path, PathBuf};

/// An I/O error with its path and operation.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {action}: {source}", path.display())]
pub struct FileError {
    /// File or directory.
    pub path: PathBuf,
    /// Operation, an infinitive: `write`, `sync`, `rename a temporary file to`.
    pub action: &'static str,
    /// I/O error of the operation.
    pub source: io::Error,
}

impl FileError {
    /// An adapter for `map_err`.
    pub fn at(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError { path, action, source }
    }
}
