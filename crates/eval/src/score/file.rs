//! One file of completions.

use std::path::{Path, PathBuf};

use super::formats::{self, InputFormat, Read};
use super::record::Record;
use crate::input_error::InputError;
use crate::json_rows::Source;

/// The reason why a file is skipped that has rows without completions.
const NO_COMPLETION: &str = "no completion in it";

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
        let rows = match formats::of_archive(path)? {
            Some(rows) => rows,
            None => {
                let source = Source::read(path)?;
                if let Some(file) = Self::by_line(path, &source, format)? {
                    return Ok(file);
                }
                source.rows()?
            }
        };
        let first = rows.rows[0].0;
        let (format, read) = match format {
            Some(format) => (format, rows.rows),
            None => InputFormat::detect(rows.rows).map_err(|problem| InputError::line(path, first, problem))?,
        };
        let (records, skipped) = match format.read(path, &read)? {
            Read::Records(records) if records.is_empty() => (records, Some(NO_COMPLETION.to_owned())),
            Read::Records(records) => (records, None),
            Read::Skipped(reason) => (Vec::new(), Some(reason)),
        };
        Ok(CompletionFile { path: path.to_owned(), format, records, sha256: rows.sha256, skipped, damage: rows.damage })
    }

    /// A file with one row a line, of a format whose rows are read one by one: no row stays in memory. `None` of another.
    fn by_line(path: &Path, source: &Source<'_>, format: Option<InputFormat>) -> Result<Option<Self>, InputError> {
        let Some(lines) = source.lines() else { return Ok(None) };
        let (mut format, mut unread, mut records) = (format, Vec::new(), Vec::new());
        for row in lines {
            unread.push(row?);
            format = format.or_else(|| InputFormat::of_row(&unread.last()?.1));
            let Some(known) = format else { continue };
            let Some(found) = known.read_rows(path, &unread)? else { return Ok(None) };
            records.extend(found);
            unread.clear();
        }
        let Some(format) = format else { return Ok(None) };
        let skipped = records.is_empty().then(|| NO_COMPLETION.to_owned());
        let (sha256, damage) = (source.sha256.clone(), source.damage.clone());
        Ok(Some(CompletionFile { path: path.to_owned(), format, records, sha256, skipped, damage }))
    }
}
