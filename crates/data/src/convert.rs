//! Any readable file to canonical JSON lines: `id`, `prompt`, and the sides as lists of messages.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use smpo_files::FileError;
use smpo_tokenizer::ChatTokenizer;

use crate::Truncation;
use crate::check::{Inspection, Rule, Severity, UnreadKey, UnreadKeys};
use crate::data_file::{commonest, condemned, explained};
use crate::json_lines::JsonLines;
use crate::preparation::Preparation;
use crate::read_error::{Location, ReadError};
use crate::reader::{Located, records_of};
use crate::record::{Record, RecordKind};
use crate::sources::{Purpose, source_files};
use crate::tokenized_record::Entry;

/// Rows that are checked in parallel; bounds memory.
const CHUNK: usize = 512;

/// Result of a conversion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// Rows written.
    pub written: u64,
    /// Bad rows left out.
    pub dropped: u64,
    /// The same by the rule of the data check that they break.
    pub by_rule: BTreeMap<&'static str, u64>,
    /// Columns and message keys that nothing reads: they are not in the output.
    pub unread: Vec<UnreadKey>,
}

/// A row that is left out.
#[derive(Debug)]
pub struct LeftOut {
    /// Its place.
    pub location: Location,
    /// The first rule that it breaks.
    pub rule: Rule,
    /// The problem.
    pub problem: String,
}

/// The rows that a conversion leaves out.
#[derive(Debug, Clone, Copy)]
pub struct DropBad<'a> {
    /// The tokenizer that rows are rendered with; without one only their text is checked.
    pub tokenizer: Option<&'a ChatTokenizer>,
    /// Maximum lengths, in tokens.
    pub truncation: &'a Truncation,
    /// Changes of records before they are rendered; what is written has none of them.
    pub preparation: &'a Preparation,
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
/// at all; a device or pipe is written through ([`JsonLines`]). With `drop_bad`, rows that the data check calls an error are
/// left out and passed to `left_out`; without it the first that cannot be read is the error. `on_progress` is called with the
/// rows so far; nothing is written after a break.
///
/// # Errors
/// When the input has a bad row that may not be dropped or ends in an error, or the output cannot be written.
pub fn convert(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    drop_bad: Option<DropBad<'_>>,
    left_out: &mut dyn FnMut(&LeftOut),
    on_progress: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Option<Converted>, ConvertError> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let files = source_files(from, Purpose::Train)?;
    let kept = drop_bad.map(|drop| Kept::of(&files, drop)).transpose()?;
    let mut rows = records_of(files)?;
    let mut out = JsonLines::create(to)?;
    let mut converted = Converted::default();
    let mut unread = UnreadKeys::default();
    loop {
        let chunk: Vec<_> = rows.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        let judged: Vec<_> = chunk
            .into_par_iter()
            .map(|row| {
                let problem = kept.as_ref().and_then(|kept| kept.problem(&row));
                (row, problem)
            })
            .collect();
        for (row, problem) in judged {
            match (row, problem) {
                (_, Some(problem)) => {
                    left_out(&problem);
                    converted.dropped += 1;
                    *converted.by_rule.entry(problem.rule.id()).or_default() += 1;
                }
                (Ok(row), None) => {
                    out.write(&row.record)?;
                    converted.written += 1;
                    unread.add(&row.remarks.unread, row.location.line);
                }
                (Err(error), None) => return Err(error.into()),
            }
        }
        if on_progress(converted.written + converted.dropped).is_break() {
            return Ok(None);
        }
    }
    converted.unread = unread.list();
    out.commit()?;
    Ok(Some(converted))
}

/// The rows that a conversion keeps.
struct Kept<'a> {
    drop: DropBad<'a>,
    /// The only kind that is written: that of most rows.
    kind: Option<RecordKind>,
}

impl<'a> Kept<'a> {
    fn of(files: &[PathBuf], drop: DropBad<'a>) -> Result<Self, ReadError> {
        let mut kinds = Vec::new();
        // a pipe can be read only once
        if files.iter().all(|file| file.is_file()) {
            kinds.extend(records_of(files.to_vec())?.flatten().map(|row| row.record.kind()));
        }
        Ok(Self { drop, kind: commonest(kinds.into_iter()) })
    }

    /// The reason to leave a row out. An error that ends the file is none.
    fn problem(&self, row: &Result<Located<Record>, ReadError>) -> Option<LeftOut> {
        let (location, (rule, problem)) = match row {
            Err(error) if error.is_row() => (error.location.clone(), (Rule::UnreadableRow, error.problem.to_string())),
            Err(_) => return None,
            Ok(row) => (row.location.clone(), self.condemned(row)?),
        };
        Some(LeftOut { location, rule, problem })
    }

    fn condemned(&self, row: &Located<Record>) -> Option<(Rule, String)> {
        let kind = row.record.kind();
        if let Some(kept) = self.kind.filter(|kept| *kept != kind) {
            return Some((Rule::MixedKinds, format!("{} among rows that are mostly {}", kind.name(), kept.name())));
        }
        match self.drop.tokenizer {
            Some(tokenizer) => {
                let entry = Entry::new(row.clone(), tokenizer, self.drop.preparation);
                condemned(entry.record.as_ref().ok()?, self.drop.truncation, tokenizer)
            }
            None => {
                let mut broken = Inspection::of_text(&row.record).broken;
                broken.retain(|(rule, _)| rule.severity() == Severity::Error);
                broken.into_iter().min().map(|(rule, detail)| (rule, explained(rule, &detail)))
            }
        }
    }
}
