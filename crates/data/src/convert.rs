//! Any readable file to canonical JSON lines: `id`, `prompt`, and the sides as lists of messages.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use smpo_files::{FileError, WholeFile};

use crate::read_error::ReadError;
use crate::reader::records;

/// Result of a conversion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// Rows written.
    pub written: u64,
    /// Bad rows left out.
    pub dropped: u64,
}

/// Error of a conversion; the output file is then as it was before.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A row or the file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

/// Writes `from` to `to` as canonical JSON lines, gzipped where `to` ends in `.gz`. The output appears whole or not
/// at all; a device or pipe is written through ([`WholeFile`]). With `drop_bad`, rows that cannot be read are left
/// out and passed to `bad`; without it the first one is the error. `on_progress` is called with the rows so far; nothing is
/// written after a break.
///
/// # Errors
/// When the input has a bad row that may not be dropped or ends in an error, or the output cannot be written.
pub fn convert(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    drop_bad: bool,
    bad: &mut dyn FnMut(&ReadError),
    on_progress: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Option<Converted>, ConvertError> {
    let to = to.as_ref();
    let rows = records(from)?;
    let fail = |source| FileError::at(to, "write")(source);
    let file = BufWriter::new(WholeFile::create(to)?);
    let gzip = to.extension().is_some_and(|extension| extension == "gz");
    let mut out = if gzip { Output::Gzip(GzEncoder::new(file, Compression::default())) } else { Output::Plain(file) };
    let mut converted = Converted::default();
    for row in rows {
        match row {
            Ok(row) => {
                serde_json::to_writer(&mut out, &row.record).map_err(|error| fail(error.into()))?;
                out.write_all(b"\n").map_err(fail)?;
                converted.written += 1;
            }
            Err(error) if drop_bad && error.is_row() => {
                bad(&error);
                converted.dropped += 1;
            }
            Err(error) => return Err(error.into()),
        }
        if on_progress(converted.written + converted.dropped).is_break() {
            return Ok(None);
        }
    }
    out.finish().map_err(fail)?.commit()?;
    Ok(Some(converted))
}

enum Output {
    Plain(BufWriter<WholeFile>),
    Gzip(GzEncoder<BufWriter<WholeFile>>),
}

impl Output {
    fn finish(self) -> io::Result<WholeFile> {
        let buffered = match self {
            Output::Plain(file) => file,
            Output::Gzip(encoder) => encoder.finish()?,
        };
        buffered.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Plain(file) => file.write(bytes),
            Output::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Plain(file) => file.flush(),
            Output::Gzip(encoder) => encoder.flush(),
        }
    }
}
