use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::FileError;
use crate::destination::parent;
use crate::staging::{self, SUFFIX};
use crate::sync::{create_dirs, rename, sync_dir, sync_tree};

/// Writes a directory whole: `fill` writes into a temporary directory beside `dir`, every file of which is synced before
/// it is renamed to `dir`, which must be absent or empty. A symbolic link to a directory stays; what it points to is
/// written.
///
/// # Errors
/// The error of `fill`, or when a directory cannot be written or `dir` holds something. Nothing is left behind then.
pub fn write_dir_whole<E: From<FileError>>(dir: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let target = resolved(dir)?;
    let parent = parent(&target);
    create_dirs(parent)?;
    let staging = staging::dir(&target, "write")?;
    let path = staging.dir.path();
    fill(path)?;
    sync_tree(path)?;
    rename(path, &target)?;
    if let Err(error) = sync_dir(parent) {
        // it would be there now, and perhaps not after a power loss: back, to be removed
        let _ = fs::rename(&target, path);
        return Err(error.into());
    }
    // Renamed away: there is nothing left to clean up.
    let _ = staging.dir.keep();
    Ok(())
}

/// Removes a directory that is whole at any time under its name: it is renamed to a temporary one first, which
/// [`remove_leftovers`] finds if the process is killed.
///
/// # Errors
/// When it cannot be renamed or removed.
pub fn remove_dir_whole(dir: &Path) -> Result<(), FileError> {
    let doomed = staging::dir(dir, "remove")?;
    rename(dir, &doomed.dir.path().join("removed"))?;
    doomed.dir.close().map_err(FileError::at(dir, "remove"))
}

/// Removes a file that may not be there.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(FileError::at(path, "remove")(source)),
        _ => Ok(()),
    }
}

/// Moves a file or directory to a new path in the same filesystem, whose missing parent directories are created.
///
/// # Errors
/// When a directory cannot be created or the move fails.
pub fn move_to(from: &Path, to: &Path) -> Result<(), FileError> {
    let target = parent(to);
    create_dirs(target)?;
    rename(from, to)?;
    sync_dir(target)?;
    sync_dir(parent(from))
}

/// The directory a symbolic link points to, be it there or not; any other path itself.
fn resolved(dir: &Path) -> Result<PathBuf, FileError> {
    match fs::canonicalize(dir) {
        Ok(target) if dir.is_symlink() => Ok(target),
        Err(error) if error.kind() == ErrorKind::NotFound && dir.is_symlink() => {
            let target = fs::read_link(dir).map_err(FileError::at(dir, "follow"))?;
            resolved(&parent(dir).join(target))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::at(dir, "follow")(error)),
        _ => Ok(dir.to_owned()),
    }
}

/// Removes the temporary files and directories that killed processes left in `dir`. The caller holds the directory's
/// [lock](crate::DirLock): another process may be writing them otherwise. An absent directory has none.
///
/// # Errors
/// When the directory cannot be listed or an entry cannot be removed.
pub fn remove_leftovers(dir: &Path) -> Result<(), FileError> {
    remove_where(dir, &|_| true)
}

/// Removes temporary files and directories by their names.
fn remove_where(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(), FileError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(FileError::at(dir, "list"))?,
    };
    for entry in entries {
        let entry = entry.map_err(FileError::at(dir, "list"))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(SUFFIX) && wanted(&name) {
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(FileError::at(&path, "remove"))?;
        }
    }
    Ok(())
}

/// Removes the temporary files and directories that killed processes left of `path`: beside it under its name, and inside it
/// at any depth. The caller makes sure that no other process writes them.
///
/// # Errors
/// As [`remove_leftovers`].
pub fn remove_leftovers_of(path: &Path) -> Result<(), FileError> {
    let prefix = staging::prefix(path);
    let prefix = prefix.to_string_lossy();
    remove_where(parent(path), &|name| name.starts_with(&*prefix))?;
    let mut dirs = vec![path.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        // a file has nothing inside; links are not followed
        if fs::symlink_metadata(&dir).is_ok_and(|found| found.is_dir()) {
            remove_leftovers(&dir)?;
            let entries = fs::read_dir(&dir).map_err(FileError::at(&dir, "list"))?;
            for entry in entries {
                dirs.push(entry.map_err(FileError::at(&dir, "list"))?.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::trace;

    #[test]
    fn leftovers_of_a_path_are_beside_it_and_inside_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for file in [".model.x1.partial/weights", "model/a/.b.x2.partial", "model/a/b", ".other.x3.partial/weights"] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), b"bytes").unwrap();
        }
        remove_leftovers_of(&at("model")).unwrap();
        let there = |name: &str| at(name).exists();
        assert!(!there(".model.x1.partial") && !there("model/a/.b.x2.partial"));
        assert!(there("model/a/b") && there(".other.x3.partial/weights"));
        remove_leftovers_of(&at("absent/model")).unwrap();
    }

    #[test]
    fn every_file_is_on_the_disk_before_the_directory_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        fs::create_dir(&runs).unwrap();
        trace::take();
        let fill = |staging: &Path| {
            fs::create_dir(staging.join("model")).unwrap();
            fs::write(staging.join("model/weights"), b"weights").unwrap();
            Ok::<(), FileError>(())
        };
        write_dir_whole(&runs.join("step-1"), fill).unwrap();
        let order = ["sync file weights", "sync directory model", "sync directory (temporary)", "rename step-1"];
        assert_eq!(trace::take(), [&order[..], &["sync directory runs"]].concat());
    }
}
