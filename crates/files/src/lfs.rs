//! Git LFS pointers: the few lines that a checkout without `git lfs` has in the place of a large file.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::FileError;

/// Bytes with which a pointer begins.
pub(crate) const START: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Name of a pointer and the way out, for the end of a message.
pub const LFS_POINTER: &str = "it is a Git LFS pointer; fetch the file itself (git lfs pull, or hf download)";

/// True if a file's first bytes are those of a pointer.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(START)
}

/// True if the file is a pointer; a file that cannot be read is none.
pub fn is_lfs_pointer_file(path: &Path) -> bool {
    let mut start = Vec::new();
    File::open(path).is_ok_and(|file| file.take(START.len() as u64).read_to_end(&mut start).is_ok())
        && is_lfs_pointer(&start)
}

/// The text of a file, which is no pointer.
///
/// # Errors
/// When it cannot be read, is not UTF-8, or is a pointer.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    let text = std::fs::read_to_string(path).map_err(FileError::at(path, "read"))?;
    match is_lfs_pointer(text.as_bytes()) {
        true => Err(FileError::at(path, "read")(io::Error::new(ErrorKind::InvalidData, LFS_POINTER))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_from_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:07\nsize 9\n";
        for (text, is_pointer) in [(pointer, true), ("{}", false), ("version 1", false), ("", false)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(is_lfs_pointer_file(&path), is_pointer, "{text}");
            assert_eq!(read_text(&path).is_err(), is_pointer, "{text}");
        }
        std::fs::write(&path, pointer).unwrap();
        let error = read_text(&path).unwrap_err().to_string();
        assert!(error.ends_with(&format!("config.json: cannot read: {LFS_POINTER}")), "{error}");
        assert!(crate::TextFile::open(&path).is_err());
        assert!(!is_lfs_pointer_file(&dir.path().join("absent")));
    }
}
