use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::FileError;

/// Bytes that are held in memory before they are written.
const HELD: usize = 1 << 16;

/// Place of some bytes in a [`Spool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u64,
    length: NonZeroU32,
}

/// A temporary file that takes bytes and gives them back in any order. It has no name: the system removes it with the
/// process, however that ends. The last bytes are in memory; where they are few there is no file.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    file: Option<File>,
    /// Bytes in the file.
    written: u64,
    /// Those that follow.
    held: Vec<u8>,
}

impl Spool {
    /// A spool in a directory.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Spool { dir: dir.into(), file: None, written: 0, held: Vec::new() }
    }

    /// A spool on the filesystem of a directory that need not be there yet.
    pub fn beside(output: &Path) -> Self {
        Self::in_dir(output.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new(".")))
    }

    /// The directory of the file.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes bytes, at least one.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Span, FileError> {
        if self.held.len() + bytes.len() > HELD {
            self.flush().map_err(FileError::at(&self.dir, "write a temporary file in it"))?;
        }
        let length = u32::try_from(bytes.len()).ok().and_then(NonZeroU32::new);
        let length = length
            .ok_or_else(|| io::Error::other(format!("expected 1 to {} bytes at once, got {}", u32::MAX, bytes.len())));
        let length = length.map_err(FileError::at(&self.dir, "write a temporary file in it"))?;
        let span = Span { start: self.written + self.held.len() as u64, length };
        self.held.extend_from_slice(bytes);
        Ok(span)
    }

    fn flush(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.dir)?),
        };
        file.write_all_at(&self.held, self.written)?;
        self.written += self.held.len() as u64;
        self.held.clear();
        Ok(())
    }

    /// The bytes of a span.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, span: Span) -> Result<Vec<u8>, FileError> {
        let length = span.length.get() as usize;
        if let Some(start) = span.start.checked_sub(self.written) {
            let start = start as usize;
            return Ok(self.held[start..start + length].to_vec());
        }
        let mut bytes = vec![0; length];
        let read = self.file.as_ref().map_or(Ok(()), |file| file.read_exact_at(&mut bytes, span.start));
        read.map_err(FileError::at(&self.dir, "read a temporary file in it"))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_memory_and_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::beside(&dir.path().join("not/there/yet"));
        let text = |index: usize| format!("{index} ").repeat(index % 97 + 1);
        let mut spans = Vec::new();
        for index in 0..5000 {
            spans.push(spool.push(text(index).as_bytes()).unwrap());
            let earlier = index * 7919 % (index + 1);
            assert_eq!(spool.read(spans[earlier]).unwrap(), text(earlier).as_bytes());
        }
        assert!(spool.written > 0 && !spool.held.is_empty());
        let large = vec![7; 3 * HELD];
        let span = spool.push(&large).unwrap();
        assert!(spool.read(span).unwrap() == large);
        assert_eq!(spool.read(spans[4999]).unwrap(), text(4999).as_bytes());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn few_bytes_need_no_file_and_an_error_names_the_directory() {
        let mut spool = Spool::in_dir("/nowhere");
        let span = spool.push(b"few").unwrap();
        assert_eq!(spool.read(span).unwrap(), b"few");
        let error = spool.push(&[0; HELD]).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere: cannot write a temporary file in it: "), "{error}");
        assert_eq!(spool.read(span).unwrap(), b"few");
    }
}
