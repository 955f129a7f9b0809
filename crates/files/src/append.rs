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

/// Removes half a line that a crash left at the end of a file of lines; whole lines are never rewritten.
///
/// # Errors
/// When the file cannot be read or shortened.
pub fn cut_torn_line(path: &Path) -> Result<(), FileError> {
    let bytes = std::fs::read(path).map_err(FileError::at(path, "read"))?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        let file = OpenOptions::new().write(true).open(path);
        file.and_then(|file| file.set_len(whole as u64)).map_err(FileError::at(path, "shorten"))?;
    }
    Ok(())
}
