use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::FileError;

/// Copies a file's content, not its permissions: a copy of a read-only file can be replaced.
///
/// # Errors
/// When `from` cannot be opened, or `to` cannot be written; the error names the one or the other.
pub fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    let mut source = File::open(from).map_err(FileError::at(from, "open"))?;
    let mut target = File::create(to).map_err(FileError::at(to, "create"))?;
    // both files keep their position, and a copy within the kernel is not taken up again by itself
    loop {
        match io::copy(&mut source, &mut target) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::at(to, "write")(error)),
        }
    }
}
