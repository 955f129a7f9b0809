use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::FileError;
use crate::destination::{Destination, parent};
use crate::staging;
use crate::sync::{create_dirs, sync_dir, sync_file, trace};

/// Writes a file whole, and its missing parent directories; see the crate for paths that are no regular file.
///
/// # Errors
/// When a directory or the file cannot be written; the path then holds what it held before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = WholeFile::create_with_dirs(path)?;
    file.write_all(bytes).map_err(FileError::at(path, "write"))?;
    file.commit()
}

/// A file being written: [`WholeFile::commit`] makes it appear whole, dropping it without leaves the path as it was.
/// Unbuffered.
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    output: Output,
}

#[derive(Debug)]
enum Output {
    Replacing { temporary: NamedTempFile, target: PathBuf, permissions: Option<fs::Permissions> },
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    Through(File),
}

impl WholeFile {
    /// Opens a temporary file beside `path`, whose directory exists; a device, pipe or file descriptor is opened itself.
    ///
    /// # Errors
    /// When the path cannot be written.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        WholeFile::open(path, Destination::of(path)?)
    }

    /// [`WholeFile::create`], and the missing parent directories of a regular file.
    ///
    /// # Errors
    /// When a directory or the path cannot be written.
    pub fn create_with_dirs(path: &Path) -> Result<Self, FileError> {
        let destination = Destination::of(path)?;
        if let Destination::File { path: target, .. } = &destination {
            create_dirs(parent(target))?;
        }
        WholeFile::open(path, destination)
    }

    fn open(path: &Path, destination: Destination) -> Result<Self, FileError> {
        let open = |options: &mut OpenOptions, through: &Path| {
            options.open(through).map(Output::Through).map_err(FileError::at(path, "open"))
        };
        let output = match destination {
            Destination::File { path: target, permissions } => {
                Output::Replacing { temporary: staging::file(&target)?, target, permissions }
            }
            Destination::Stdout => Output::Stdout(io::stdout()),
            Destination::Stderr => Output::Stderr(io::stderr()),
            Destination::Special(through) => open(OpenOptions::new().write(true), &through)?,
            Destination::Descriptor(through) => open(OpenOptions::new().append(true), &through)?,
        };
        Ok(WholeFile { path: path.to_owned(), output })
    }

    /// Syncs the file, renames it to its path and syncs the directory.
    ///
    /// # Errors
    /// When one of the three fails.
    pub fn commit(self) -> Result<(), FileError> {
        let flushed = FileError::at(&self.path, "write");
        match self.output {
            Output::Replacing { temporary, target, permissions } => {
                if let Some(permissions) = permissions {
                    keep_permissions(temporary.as_file(), permissions)
                        .map_err(FileError::at(&target, "keep the permissions of"))?;
                }
                sync_file(temporary.as_file(), &target)?;
                trace::record("rename", &target);
                fs::rename(temporary.path(), &target).map_err(FileError::at(&target, "replace"))?;
                // Renamed away: there is nothing left to clean up.
                let _ = temporary.keep();
                sync_dir(parent(&target))
            }
            Output::Stdout(mut out) => out.flush().map_err(flushed),
            Output::Stderr(mut out) => out.flush().map_err(flushed),
            Output::Through(mut file) => file.flush().map_err(flushed),
        }
    }
}

/// Sets permissions where they differ: some filesystems refuse to set any.
fn keep_permissions(file: &File, permissions: fs::Permissions) -> io::Result<()> {
    if file.metadata()?.permissions() == permissions { Ok(()) } else { file.set_permissions(permissions) }
}

impl WholeFile {
    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.output {
            Output::Replacing { temporary, .. } => temporary.as_file_mut(),
            Output::Stdout(out) => out,
            Output::Stderr(out) => out,
            Output::Through(file) => file,
        }
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_on_the_disk_before_the_name_and_the_name_before_the_return() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        fs::create_dir(&runs).unwrap();
        trace::take();
        write_whole(&runs.join("run.json"), b"{}").unwrap();
        assert_eq!(trace::take(), ["sync file run.json", "rename run.json", "sync directory runs"]);
    }
}
