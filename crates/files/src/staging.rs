//! Temporary files and directories beside their target, `.NAME.RANDOM.partial`. Each is locked by its writer, so that what a
//! killed one left is told from what is being written, and removed by the next writer of the same target.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use tempfile::{NamedTempFile, TempDir};

use crate::FileError;
use crate::destination::parent;

/// Last part of a temporary name.
pub(crate) const SUFFIX: &str = ".partial";

/// First part of the temporary names of a path.
pub(crate) fn prefix(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    prefix
}

/// A temporary file for `target`, with the permissions of an ordinary file.
pub(crate) fn file(target: &Path) -> Result<NamedTempFile, FileError> {
    sweep(target);
    loop {
        let file = builder(&prefix(target), 0o666, |builder| builder.tempfile_in(parent(target)));
        let file = file.map_err(FileError::at(target, "write"))?;
        if is_ours(file.as_file(), file.path()) {
            return Ok(file);
        }
    }
}

/// A temporary directory and its lock.
#[derive(Debug)]
pub(crate) struct StagingDir {
    pub dir: TempDir,
    _lock: Option<File>,
}

/// A temporary directory for `target`, with the permissions of an ordinary directory; `action` is that of the error.
pub(crate) fn dir(target: &Path, action: &'static str) -> Result<StagingDir, FileError> {
    sweep(target);
    loop {
        let dir = builder(&prefix(target), 0o777, |builder| builder.tempdir_in(parent(target)));
        let dir = dir.map_err(FileError::at(target, action))?;
        // not every platform opens directories
        let lock = File::open(dir.path()).ok();
        if lock.as_ref().is_none_or(|lock| is_ours(lock, dir.path())) {
            return Ok(StagingDir { dir, _lock: lock });
        }
    }
}

fn builder<R>(prefix: &OsString, mode: u32, create: impl FnOnce(&tempfile::Builder) -> io::Result<R>) -> io::Result<R> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    create(&builder)
}

/// Locks what was just created. False if another process took it for a leftover in between. A filesystem without locks has no
/// such processes.
fn is_ours(file: &File, path: &Path) -> bool {
    let is_gone = || matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && !is_gone()
}

/// Removes what killed writers of a path left beside it. A leftover that cannot be removed harms nobody.
fn sweep(target: &Path) {
    let prefix = prefix(target);
    let Ok(entries) = fs::read_dir(parent(target)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let (name, prefix) = (name.as_encoded_bytes(), prefix.as_encoded_bytes());
        let is_temporary = name.strip_prefix(prefix).and_then(|name| name.strip_suffix(SUFFIX.as_bytes()));
        // the random part has no dot: another target's name may begin with this one
        if is_temporary.is_some_and(|random| !random.contains(&b'.')) {
            remove_if_left(&entry.path());
        }
    }
}

fn remove_if_left(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    if !(found.is_dir() || found.is_file()) {
        return;
    }
    let Ok(file) = File::open(path) else { return };
    // held while it is removed
    if file.try_lock().is_ok() {
        let _ = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_the_dead_are_removed_and_what_is_being_written_stays() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::create_dir(at(".model.AbCdEf.partial")).unwrap();
        fs::write(at(".model.AbCdEf.partial/weights"), b"half").unwrap();
        fs::write(at(".model.GhIjKl.partial"), b"half").unwrap();
        fs::write(at(".model.json.AbCdEf.partial"), b"another target's").unwrap();
        let alive = dir(&at("model"), "write").unwrap();
        let there: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(there.len(), 2, "{there:?}");
        assert!(alive.dir.path().is_dir() && at(".model.json.AbCdEf.partial").is_file());
        let file = file(&at("model")).unwrap();
        let second = dir(&at("model"), "write").unwrap();
        assert!(alive.dir.path().is_dir() && file.path().is_file() && second.dir.path().is_dir());
    }
}
