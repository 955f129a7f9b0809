//! `fsync`, with the order of operations recorded in tests.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::FileError;
use crate::destination::parent;

/// Syncs a file's content and metadata.
pub(crate) fn sync_file(file: &File, path: &Path) -> Result<(), FileError> {
    trace::record("sync file", path);
    file.sync_all().map_err(FileError::at(path, "sync"))
}

/// Syncs a directory's entries, where the platform and the filesystem can.
pub(crate) fn sync_dir(path: &Path) -> Result<(), FileError> {
    if !cfg!(unix) {
        return Ok(());
    }
    trace::record("sync directory", path);
    match File::open(path).and_then(|dir| dir.sync_all()) {
        // Some network filesystems refuse to sync a directory.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        outcome => outcome.map_err(FileError::at(path, "sync")),
    }
}

/// Creates a directory and its missing parents, each synced into the one above: what is written into it later does not vanish
/// with its name in a power loss.
///
/// # Errors
/// When a directory cannot be created or synced.
pub fn create_dirs(dir: &Path) -> Result<(), FileError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()).collect();
    fs::create_dir_all(dir).map_err(FileError::at(dir, "create the directory"))?;
    missing.into_iter().rev().try_for_each(|made| sync_dir(parent(made)))
}

/// Syncs every regular file and directory below `dir`, and `dir` last.
pub(crate) fn sync_tree(dir: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(dir).map_err(FileError::at(dir, "list"))? {
        let entry = entry.map_err(FileError::at(dir, "list"))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(FileError::at(dir, "list"))?);
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            let file = File::open(&path).map_err(FileError::at(&path, "open"))?;
            sync_file(&file, &path)?;
        }
    }
    sync_dir(dir)
}

/// Renames a directory.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    trace::record("rename", to);
    fs::rename(from, to).map_err(FileError::at(to, "rename a temporary directory to"))
}

/// The order of operations on this thread.
pub(crate) mod trace {
    use std::path::Path;

    #[cfg(test)]
    thread_local! {
        static OPERATIONS: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
    }

    #[cfg(test)]
    pub(crate) fn record(operation: &str, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Temporary names are random.
        let name = if name.ends_with(".partial") { "(temporary)".into() } else { name };
        OPERATIONS.with_borrow_mut(|operations| operations.push(format!("{operation} {name}")));
    }

    #[cfg(not(test))]
    pub(crate) fn record(_: &str, _: &Path) {}

    #[cfg(test)]
    pub(crate) fn take() -> Vec<String> {
        OPERATIONS.take()
    }
}
