//! One file of completions.

use std::path::{Path, PathBuf};

use super::formats::{self, InputFormat, Read};
use super::record::Record;
use crate::input_error::InputError;
use crate::json_rows;

/// A file of completions.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionFile {
    pub(super) path: PathBuf,
    /// The format, given or detected.
    pub format: InputFormat,
    /// Each with its line.
    pub(super) records: Vec<(usize, Record)>,
    /// SHA-256 of the text.
    pub(super) sha256: String,
    /// The reason why a file of the format has no completions.
    pub(super) skipped: Option<String>,
    /// A remark on its bytes.
    pub(super) damage: Option<String>,
}

impl CompletionFile {
    /// Reads a file, detecting its format by content unless one is given.
    ///
    /// # Errors
    /// [`InputError`], with the line.
    pub fn read(path: &Path, format: Option<InputFormat>) -> Result<Self, InputError> {
        let rows = formats::of_archive(path)?.map_or_else(|| json_rows::read(path), Ok)?;
        let first = rows.rows[0].0;
        let (format, read) = match format {
            Some(format) => (format, rows.rows),
            None => InputFormat::detect(rows.rows).map_err(|problem| InputError::line(path, first, problem))?,
        };
        let (records, skipped) = match format.read(path, &read)? {
            Read::Records(records) if records.is_empty() => (records, Some("no completion in it".into())),
            Read::Records(records) => (records, None),
            Read::Skipped(reason) => (Vec::new(), Some(reason)),
        };
        Ok(CompletionFile { path: path.to_owned(), format, records, sha256: rows.sha256, skipped, damage: rows.damage })
    }
}
