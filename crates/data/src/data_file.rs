//! A data file of a run: its entries, the ones that can be used, and its findings.

use std::io;
use std::path::Path;
use std::sync::Arc;

use smpo_tokenizer::ChatTokenizer;

use crate::check::{CheckReport, Tally};
use crate::dataset::{BadRows, Dataset, OnBadRows};
use crate::dataset_error::DatasetError;
use crate::read_error::{Location, ReadError};
use crate::token_file::{Opened, Opener, TokenFile, Visitor};
use crate::tokenized_record::Entry;

/// A tokenised data file with the entries of it that a run can use.
#[derive(Debug)]
pub(crate) struct DataFile {
    tokens: TokenFile,
    contents: Contents,
    /// True if the file was parsed; false where it came from the cache.
    pub parsed: bool,
    /// Records that were tokenised.
    pub tokenized: u64,
    /// Error of writing the token cache.
    pub write_error: Option<io::Error>,
}

/// The usable entries of a file, and its problems.
#[derive(Debug, Default)]
struct Contents {
    /// Per entry: true if it gives rows of the run's kind.
    usable: Vec<bool>,
    bad: BadRows,
    /// The first bad row.
    first_bad: Option<DatasetError>,
    /// The error that ends the file early.
    damage: Option<ReadError>,
}

impl DataFile {
    /// Reads a data file once and, with `check`, checks it; `None` when interrupted.
    pub fn open(
        path: &Path,
        dataset: &Dataset,
        check: bool,
        opener: &mut Opener<'_>,
    ) -> Result<Option<(Self, Option<CheckReport>)>, DatasetError> {
        let fail_fast = !check && dataset.on_bad_rows == OnBadRows::Fail;
        let checked_by = check.then_some(opener.tokenizer);
        let mut reader =
            Reader { path: path.into(), dataset, fail_fast, checked_by, tally: None, contents: Contents::default() };
        let Some(opened) = opener.open(path, &mut reader)? else { return Ok(None) };
        let Opened { file, tokenized, parsed, write_error } = opened;
        let Reader { tally, contents, .. } = reader;
        let report = tally.map(|tally| tally.report(path));
        Ok(Some((Self { tokens: file, contents, parsed, tokenized, write_error }, report)))
    }

    /// Number of entries that can be used.
    pub fn usable(&self) -> usize {
        self.contents.usable.iter().filter(|usable| **usable).count()
    }

    /// The bad rows.
    ///
    /// # Errors
    /// When the file is damaged, or has a bad row and none may be dropped.
    pub fn take_bad(&mut self, on_bad_rows: OnBadRows) -> Result<BadRows, DatasetError> {
        if let Some(error) = self.contents.first_bad.take()
            && on_bad_rows == OnBadRows::Fail
        {
            return Err(error);
        }
        match self.contents.damage.take() {
            Some(damage) => Err(damage.into()),
            None => Ok(std::mem::take(&mut self.contents.bad)),
        }
    }

    /// Reads the usable entries that `wanted` is true for, by their rank among the usable ones.
    pub fn read(
        &mut self,
        wanted: impl Fn(usize) -> bool,
        mut visit: impl FnMut(usize, Location, Entry) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let mut used = 0;
        let rank = |usable: &bool| {
            used += usize::from(*usable);
            usable.then(|| used - 1)
        };
        let ranks: Vec<Option<usize>> = self.contents.usable.iter().map(rank).collect();
        let path = self.tokens.path();
        self.tokens.read(
            |index| ranks[index].is_some_and(&wanted),
            |index, entry| match ranks[index] {
                Some(rank) => visit(rank, Location { path: path.clone(), line: entry.line }, entry),
                None => Ok(()),
            },
        )
    }
}

/// Notes the usable entries of a file and checks them.
struct Reader<'a> {
    path: Arc<Path>,
    dataset: &'a Dataset,
    /// True if the first bad row ends the reading.
    fail_fast: bool,
    /// The tokenizer that the model directory is checked by; `None` without a check.
    checked_by: Option<&'a ChatTokenizer>,
    tally: Option<Tally>,
    contents: Contents,
}

impl Visitor for Reader<'_> {
    fn begin(&mut self) {
        self.tally = self.checked_by.map(|tokenizer| Tally::of_model(Some(tokenizer)));
        self.contents = Contents::default();
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), DatasetError> {
        if let Some(tally) = &mut self.tally {
            tally.entry(entry, &self.dataset.truncation, self.checked_by);
        }
        let problem = entry.problem(self.dataset.kind);
        self.contents.usable.push(problem.is_none());
        if let Some(problem) = problem {
            let location = Location { path: self.path.clone(), line: entry.line };
            let error = DatasetError::Row { location, problem };
            self.contents.bad.add(&error);
            if self.fail_fast {
                return Err(error);
            }
            self.contents.first_bad.get_or_insert(error);
        }
        Ok(())
    }

    fn damage(&mut self, error: ReadError) -> Result<(), DatasetError> {
        if let Some(tally) = &mut self.tally {
            tally.damaged_file(&error);
        }
        if self.fail_fast {
            return Err(error.into());
        }
        self.contents.damage = Some(error);
        Ok(())
    }
}
