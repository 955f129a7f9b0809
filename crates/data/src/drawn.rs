//! The records of a run as text, for what changes them before they are rendered.

use std::ops::ControlFlow;
use std::path::Path;

use smpo_tokenizer::ChatTokenizer;

use crate::columns::Columns;
use crate::dataset::{BadRows, Dataset, OnBadRows, Taken, no_rows};
use crate::dataset_error::DatasetError;
use crate::degenerate::DegenerateGroups;
use crate::reader::{Layout, Located, records_for};
use crate::record::Record;
use crate::row::{Row, RowKind};
use crate::sources::Purpose;
use crate::tokenized_record::TokenizedRecord;
use crate::{Truncated, Truncation};

/// Records of a run, drawn as its rows are.
#[derive(Debug, Default)]
pub struct DrawnRecords {
    /// Records to train on, in file order, repetitions included.
    pub train: Vec<Located<Record>>,
    /// Records to evaluate on, in file order.
    pub held_out: Vec<Located<Record>>,
    /// Rows left out.
    pub bad: BadRows,
}

impl Dataset {
    /// Draws the records of the run, prepared and not rendered: those whose rows [`TokenizedFiles::rows`] gives. All records
    /// of the files are in memory. There is no result after a break, which `on_row` may ask for.
    ///
    /// # Errors
    /// When a file cannot be read; at the first bad row, unless they may be dropped; when nothing is left to train on.
    ///
    /// [`TokenizedFiles::rows`]: crate::TokenizedFiles::rows
    pub fn records(&self, on_row: &mut dyn FnMut() -> ControlFlow<()>) -> Result<Option<DrawnRecords>, DatasetError> {
        let mut drawn = DrawnRecords::default();
        let mut files = Vec::with_capacity(self.files.len());
        for path in &self.files {
            let Some(records) = self.read(path, Purpose::Train, &mut drawn.bad, on_row)? else { return Ok(None) };
            files.push(records);
        }
        let counts: Vec<usize> = files.iter().map(Vec::len).collect();
        let selection = self.select(&counts)?;
        for (file, records) in files.into_iter().enumerate() {
            for (record, Taken { times, held_out }) in records.into_iter().zip(selection.plan(file, counts[file])) {
                drawn.held_out.extend(held_out.then(|| record.clone()));
                drawn.train.extend(std::iter::repeat_n(record, times));
            }
        }
        if drawn.train.is_empty() {
            return Err(no_rows(&self.files, self.kind, &drawn.bad, DegenerateGroups::default()));
        }
        for path in &self.eval_files {
            let Some(records) = self.read(path, Purpose::HoldOut, &mut drawn.bad, on_row)? else { return Ok(None) };
            drawn.held_out.extend(records);
        }
        if !self.eval_files.is_empty() && drawn.held_out.is_empty() {
            return Err(no_rows(&self.eval_files, self.kind, &drawn.bad, DegenerateGroups::default()));
        }
        Ok(Some(drawn))
    }

    /// The records of a source that can be used.
    fn read(
        &self,
        path: &Path,
        purpose: Purpose,
        bad: &mut BadRows,
        on_row: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<Located<Record>>>, DatasetError> {
        let columns = Columns::of(&self.columns, path, purpose)?;
        let mut usable = Vec::new();
        let layout = Layout { columns, reading: self.preparation.reading };
        for row in records_for(path, purpose, layout)? {
            if on_row().is_break() {
                return Ok(None);
            }
            let found = row.map_err(DatasetError::from).and_then(|row| self.usable(row));
            match found {
                Ok(record) => usable.extend(record),
                Err(error) if self.on_bad_rows == OnBadRows::Drop && !is_of_file(&error) => bad.add("unusable", error),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(usable))
    }

    /// A record as it is rendered; `None` for one that gives no row of the kind, an undesirable completion among examples.
    fn usable(&self, row: Located<Record>) -> Result<Option<Located<Record>>, DatasetError> {
        if !self.kind.accepts(row.record.kind()) {
            let problem = format!("expected {}, got {}", self.kind.expected(), row.record.kind().name());
            return Err(DatasetError::Row { location: row.location, problem });
        }
        let undesirable = matches!(&row.record, Record::Unpaired(row) if !row.label);
        if undesirable && self.kind == RowKind::Examples {
            return Ok(None);
        }
        Ok(Some(Located { record: self.preparation.prepare(row.record), ..row }))
    }
}

/// True for an error after which no row follows.
fn is_of_file(error: &DatasetError) -> bool {
    matches!(error, DatasetError::Read(error) if !error.is_row())
}

/// The rows of `kind` of one record, cut to length.
///
/// # Errors
/// Per row, the error of the template or the tokenizer.
pub fn encode_record(
    record: &Record,
    kind: RowKind,
    tokenizer: &ChatTokenizer,
    truncation: &Truncation,
) -> Vec<Result<(Row, Truncated), String>> {
    let rows = TokenizedRecord::new(record, tokenizer).into_rows(kind);
    rows.into_iter().map(|ids| ids.map(|ids| ids.cut(tokenizer, truncation))).collect()
}
