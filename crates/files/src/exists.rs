use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::Path;

use crate::FileError;

/// True if there is something at the path's end. [`Path::exists`] says no as well where a disk or a permission fails, and
/// whoever asks goes on without what is there.
///
/// # Errors
/// When it cannot be told.
pub fn exists(path: &Path) -> Result<bool, FileError> {
    Ok(metadata(path)?.is_some())
}

/// True if the path leads to a regular file; otherwise as [`exists`].
///
/// # Errors
/// When it cannot be told.
pub fn is_file(path: &Path) -> Result<bool, FileError> {
    Ok(metadata(path)?.is_some_and(|found| found.is_file()))
}

/// True if the path leads to a directory; otherwise as [`exists`].
///
/// # Errors
/// When it cannot be told.
pub fn is_dir(path: &Path) -> Result<bool, FileError> {
    Ok(metadata(path)?.is_some_and(|found| found.is_dir()))
}

/// Metadata of what the path leads to; none if there is nothing, or nothing can be of that name.
fn metadata(path: &Path) -> Result<Option<Metadata>, FileError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
                Ok(None)
            }
            _ => Err(FileError::at(path, "look at")(error)),
        },
    }
}
