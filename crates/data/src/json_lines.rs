//! A file of JSON lines being written.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use smpo_files::{FileError, WholeFile};

/// JSON lines, gzipped where the name ends in `.gz`. They appear whole on [`JsonLines::commit`] or not at all; a device or
/// pipe is written through ([`WholeFile`]).
pub struct JsonLines {
    path: PathBuf,
    output: Output,
}

enum Output {
    Plain(BufWriter<WholeFile>),
    Gzip(GzEncoder<BufWriter<WholeFile>>),
}

impl JsonLines {
    /// Begins a file in a directory that exists.
    ///
    /// # Errors
    /// When the path cannot be written.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let file = BufWriter::new(WholeFile::create(path)?);
        let output = match path.extension().is_some_and(|extension| extension == "gz") {
            true => Output::Gzip(GzEncoder::new(file, Compression::default())),
            false => Output::Plain(file),
        };
        Ok(JsonLines { path: path.to_owned(), output })
    }

    /// Writes a value as one line.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, row: &impl Serialize) -> Result<(), FileError> {
        serde_json::to_writer(self.writer(), row).map_err(|error| self.error(error.into()))?;
        self.end_line()
    }

    /// Writes a row that is JSON on one line already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_json(&mut self, json: &[u8]) -> Result<(), FileError> {
        self.writer().write_all(json).map_err(|error| self.error(error))?;
        self.end_line()
    }

    /// Makes the file appear.
    ///
    /// # Errors
    /// When it cannot be written or renamed.
    pub fn commit(self) -> Result<(), FileError> {
        let path = self.path;
        let fail = |error| FileError::at(&path, "write")(error);
        let buffered = match self.output {
            Output::Plain(file) => file,
            Output::Gzip(encoder) => encoder.finish().map_err(fail)?,
        };
        buffered.into_inner().map_err(|error| fail(error.into_error()))?.commit()
    }

    fn end_line(&mut self) -> Result<(), FileError> {
        self.writer().write_all(b"\n").map_err(|error| self.error(error))
    }

    fn error(&self, error: io::Error) -> FileError {
        FileError::at(&self.path, "write")(error)
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.output {
            Output::Plain(file) => file,
            Output::Gzip(encoder) => encoder,
        }
    }
}
