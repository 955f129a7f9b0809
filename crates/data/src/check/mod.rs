//! The data check: errors in a data file, or in a model directory, that would train a model on the wrong thing, found
//! before hours are spent on it.

mod dropped;
mod inspection;
mod markup;
mod repeats;
mod rule;
mod sorter;
mod tally;
mod unread;

use std::ops::ControlFlow;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use smpo_tokenizer::ChatTokenizer;

use crate::read_error::ReadError;
use crate::reader::{Layout, Located, records_with};
use crate::record::Record;
use crate::tokenized_record::Entry;
use crate::{OnBadRows, Preparation, Truncation};

pub use rule::{Rule, Severity};
pub use tally::Sample;
pub use unread::{UnreadKey, list_unread};

pub(crate) use inspection::Inspection;
pub(crate) use tally::Tally;
pub(crate) use unread::UnreadKeys;

use inspection::characters;

/// Rows that are checked in parallel; bounds memory.
const CHUNK: usize = 512;

/// One rule that was broken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Severity of the rule.
    pub severity: Severity,
    /// Rows (or sides of rows) that break it; 1 for what concerns the model directory.
    pub count: u64,
    /// The same as a share of all rows; absent for what concerns the model directory.
    pub share: Option<f64>,
    /// The first rows that break it.
    pub first: Vec<Sample>,
    /// Description of the problem.
    pub what: &'static str,
    /// Remedy.
    pub remedy: &'static str,
}

/// Findings in one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// The file.
    pub file: String,
    /// Rows that are not blank, readable or not.
    pub rows: u64,
    /// Preference pairs among them.
    pub pairs: u64,
    /// Groups of scored completions among them.
    pub groups: u64,
    /// Labelled completions among them.
    pub labelled: u64,
    /// Instruction examples among them.
    pub examples: u64,
    /// Texts with their labels among them.
    pub classified: u64,
    /// Broken rules, errors first.
    pub findings: Vec<Finding>,
    /// Columns and message keys that nothing reads, by name.
    pub unread: Vec<UnreadKey>,
}

impl CheckReport {
    /// Number of findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Number and name of a severity's findings: `1 error`, `3 warnings`.
    pub fn counted(&self, severity: Severity) -> String {
        let count = self.count(severity);
        format!("{count} {}{}", severity.name(), if count == 1 { "" } else { "s" })
    }

    /// True if training on this file should be refused.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// As [`CheckReport::has_errors`], apart from errors in rows that the run drops.
    pub fn refuses(&self, on_bad_rows: OnBadRows) -> bool {
        let dropped = |rule: Rule| on_bad_rows == OnBadRows::Drop && rule.is_of_rows();
        self.findings.iter().any(|finding| finding.severity == Severity::Error && !dropped(finding.rule))
    }

    /// True if no row is readable.
    pub fn is_unreadable(&self) -> bool {
        self.pairs + self.groups + self.labelled + self.examples + self.classified == 0
    }
}

/// Checks a file, its records changed by `preparation`. Without a tokenizer only the text is checked; with one, also
/// what the chat template makes of it, terminators, lengths against `truncation`, and the model directory. `on_progress` is
/// called with the rows checked so far; no report follows a break.
///
/// # Errors
/// When the file cannot be opened, the machine cannot read it to its end, or a temporary file for the hashes of many rows
/// cannot be written; everything else is a finding.
pub fn check(
    path: impl AsRef<Path>,
    tokenizer: Option<&ChatTokenizer>,
    truncation: &Truncation,
    preparation: &Preparation,
    on_progress: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Option<CheckReport>, ReadError> {
    let path = path.as_ref();
    let mut tally = Tally::of_model(tokenizer);
    let mut rows = records_with(path, Layout { reading: preparation.reading, ..Layout::default() })?;
    loop {
        let chunk: Vec<_> = rows.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return tally.report(path).map(Some);
        }
        let inspected: Vec<_> = chunk.into_par_iter().map(|row| Inspected::new(row, tokenizer, preparation)).collect();
        for inspected in inspected {
            match inspected {
                Inspected::Damage(error) if error.is_of_the_machine() => return Err(error),
                Inspected::Damage(error) => tally.damaged_file(&error),
                Inspected::Tokens(entry) => tally.entry(&entry, truncation, tokenizer),
                Inspected::Text { line, inspection, lengths } => tally.record(line, &inspection, &lengths),
            }
        }
        if on_progress(tally.rows()).is_break() {
            return Ok(None);
        }
    }
}

/// A row of a file, checked by itself.
enum Inspected {
    /// An error that ends the file.
    Damage(ReadError),
    /// A row that cannot be read, or a record as tokens.
    Tokens(Box<Entry>),
    /// A record without a tokenizer; lengths of its completions in characters.
    Text { line: u64, inspection: Inspection, lengths: Vec<usize> },
}

impl Inspected {
    fn new(
        row: Result<Located<Record>, ReadError>,
        tokenizer: Option<&ChatTokenizer>,
        preparation: &Preparation,
    ) -> Self {
        match (row, tokenizer) {
            (Err(error), _) if !error.is_row() => Self::Damage(error),
            (Err(error), _) => Self::Tokens(Box::new(Entry::unreadable(&error))),
            (Ok(row), Some(tokenizer)) => Self::Tokens(Box::new(Entry::new(row, tokenizer, preparation))),
            (Ok(Located { location, record, remarks }), None) => {
                let mut inspection = Inspection::of_text(&record);
                inspection.foreign_markup(&record, |_| false);
                inspection.remark(remarks);
                Self::Text { line: location.line, inspection, lengths: characters(&record) }
            }
        }
    }
}
