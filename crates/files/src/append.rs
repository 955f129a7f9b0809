use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::FileError;
use crate::destination::{Destination, parent};
use crate::write_whole;

/// Appends to a file, which is created with its missing parent directories; a device or pipe is written through, as by
/// [`write_whole`].
///
/// # Errors
/// When a directory or the file cannot be written.
pub fn append(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let Destination::File { path: target, .. } = Destination::of(path)? else { return write_whole(path, bytes) };
    let dir = parent(&target);
    std::fs::create_dir_all(dir).map_err(FileError::at(dir, "create the directory"))?;
    let file = OpenOptions::new().create(true).append(true).open(&target);
    file.and_then(|mut file| file.write_all(bytes)).map_err(FileError::at(path, "append to"))
}
