//! One sampling process per directory.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use smpo_results::EvaluationDir;

use super::RunError;

/// One sampling process per directory.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    pub(super) fn take(dir: &EvaluationDir) -> Result<Self, RunError> {
        let path = dir.path().join("sampling.lock");
        let io = |action| {
            let path = path.clone();
            move |source| RunError::Io { path, action, source }
        };
        std::fs::create_dir_all(dir.path()).map_err(io("create the directory of"))?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io("create"))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { path, _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(RunError::Locked { dir: dir.path().to_owned() }),
            Err(std::fs::TryLockError::Error(source)) => Err(io("lock")(source)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Left behind it would do no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}
