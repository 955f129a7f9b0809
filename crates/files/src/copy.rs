use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use crate::{FileError, WholeFile};

/// Bytes that are copied at a time.
const PART: usize = 1 << 20;

/// Copies a file's content, not its permissions: a copy of a read-only file can be replaced.
///
/// # Errors
/// When `from` cannot be read, or `to` cannot be written; the error names the one or the other.
pub fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    let source = File::open(from).map_err(FileError::at(from, "open"))?;
    let mut target = File::create(to).map_err(FileError::at(to, "create"))?;
    copy_parts((source, from), (&mut target, to))
}

/// [`copy`], whole under its new name or not at all, with its missing parent directories.
///
/// # Errors
/// As [`copy`].
pub fn copy_whole(from: &Path, to: &Path) -> Result<(), FileError> {
    let source = File::open(from).map_err(FileError::at(from, "open"))?;
    let mut target = WholeFile::create_with_dirs(to)?;
    copy_parts((source, from), (&mut target, to))?;
    target.commit()
}

fn copy_parts((mut source, from): (impl Read, &Path), (target, to): (&mut impl Write, &Path)) -> Result<(), FileError> {
    let mut part = vec![0; PART];
    loop {
        match source.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(read) => target.write_all(&part[..read]).map_err(FileError::at(to, "write"))?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::at(from, "read")(error)),
        }
    }
}
