use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::destination::{Destination, parent};
use crate::sync::sync_file;
use crate::{FileError, create_dirs, write_whole};

/// Appends to a file, which is created with its missing parent directories; a device or pipe is written through, as by
/// [`write_whole`].
///
/// # Errors
/// When a directory or the file cannot be written.
pub fn append(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let Destination::File { path: target, .. } = Destination::of(path)? else { return write_whole(path, bytes) };
    create_dirs(parent(&target))?;
    let file = OpenOptions::new().create(true).append(true).open(&target);
    file.and_then(|mut file| file.write_all(bytes)).map_err(FileError::at(path, "append to"))
}

/// A file that this process alone appends to, piece by piece. A piece that cannot be written whole, on a full disk say, leaves
/// nothing: what is appended later follows the last whole piece.
#[derive(Debug)]
pub struct AppendFile {
    path: PathBuf,
    file: File,
    /// Bytes of the whole pieces.
    whole: u64,
}

impl AppendFile {
    /// Opens a file at its end, or creates it in its directory.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let open = || {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let whole = file.metadata()?.len();
            Ok(AppendFile { path: path.to_owned(), file, whole })
        };
        open().map_err(FileError::at(path, "open"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a piece.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, piece: &[u8]) -> Result<(), FileError> {
        if let Err(error) = self.file.write_all(piece) {
            // the error of the write counts; where this fails too, half a piece is left at the end
            let _ = self.file.set_len(self.whole);
            return Err(FileError::at(&self.path, "append to")(error));
        }
        self.whole += piece.len() as u64;
        Ok(())
    }

    /// Syncs what was appended.
    ///
    /// # Errors
    /// When it cannot be synced.
    pub fn sync(&self) -> Result<(), FileError> {
        sync_file(&self.file, &self.path)
    }
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
