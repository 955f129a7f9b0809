use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{FileError, create_dirs};

/// Name of the lock file in its directory.
const LOCK_FILE: &str = ".lock";

/// Time a killed process is given to release its lock: its last thread may end later than the process is seen to.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// A directory taken by one holder among all processes, released when dropped or when the process ends, however it
/// ends.
///
/// The lock is held on the file `.lock`, which stays: were it removed, a process that had opened it before could lock
/// the removed file while another creates and locks a new one.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock of `dir`, which is created if missing; `None` if another holder has it for two seconds more. On a
    /// filesystem without locks the directory counts as taken.
    ///
    /// # Errors
    /// When the directory or the lock file cannot be created, or locking fails for another reason.
    pub fn take(dir: &Path) -> Result<Option<Self>, FileError> {
        create_dirs(dir)?;
        let path = dir.join(LOCK_FILE);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(FileError::at(&path, "create"))?;
        let asked = Instant::now();
        loop {
            if outcome(file.try_lock()).map_err(FileError::at(&path, "lock"))? {
                return Ok(Some(DirLock { _file: file }));
            }
            if asked.elapsed() >= PATIENCE {
                return Ok(None);
            }
            sleep(POLL);
        }
    }
}

/// True if the lock is held, or the filesystem has none.
fn outcome(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_without_locks_refuses_nothing() {
        assert!(outcome(Err(TryLockError::Error(io::ErrorKind::Unsupported.into()))).unwrap());
        assert!(!outcome(Err(TryLockError::WouldBlock)).unwrap());
        assert!(outcome(Err(TryLockError::Error(io::ErrorKind::PermissionDenied.into()))).is_err());
    }
}
