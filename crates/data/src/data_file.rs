//! A data file of a run: its entries, the ones that can be used, and its findings.

use std::io;
use std::path::Path;
use std::sync::Arc;

use smpo_tokenizer::ChatTokenizer;

use crate::Truncation;
use crate::check::{CheckReport, Rule, Severity, Tally};
use crate::dataset::{BadRows, Dataset, OnBadRows};
use crate::dataset_error::DatasetError;
use crate::read_error::{Location, ReadError};
use crate::record::RecordKind;
use crate::token_file::{Opened, Opener, TokenFile, Visitor};
use crate::tokenized_record::{Entry, TokenizedRecord};

/// Name, among rules, of rows that a run of another kind could use.
const WRONG_KIND: &str = "wrong_kind";

/// Name, among rules, of rows with labels that the run does not have.
const WRONG_LABEL: &str = "wrong_label";

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
    /// Per entry that is usable: line and kind; filled only where rows are dropped.
    kinds: Vec<(u64, RecordKind)>,
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
        let tokenizer = opener.tokenizer;
        let contents = Contents::default();
        let mut reader = Reader { path: path.into(), dataset, fail_fast, check, tokenizer, tally: None, contents };
        let Some(opened) = opener.open(path, &mut reader)? else { return Ok(None) };
        let Opened { file, tokenized, parsed, write_error } = opened;
        let Reader { tally, mut contents, .. } = reader;
        contents.keep_one_kind(path);
        let report = tally.map(|tally| tally.report(path)).transpose()?;
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

impl Contents {
    /// Drops rows that are not of the commonest kind, as the data check wants one kind in a file.
    fn keep_one_kind(&mut self, path: &Path) {
        let Some(kept) = commonest(self.kinds.iter().map(|(_, kind)| *kind)) else { return };
        let usable = self.usable.iter_mut().filter(|usable| **usable);
        for (usable, (line, kind)) in usable.zip(&self.kinds).filter(|(_, (_, kind))| *kind != kept) {
            *usable = false;
            let problem = format!("{} among rows that are mostly {}", kind.name(), kept.name());
            let location = Location { path: path.into(), line: *line };
            self.bad.add(Rule::MixedKinds.id(), DatasetError::Row { location, problem });
        }
    }
}

/// The kind of most rows.
pub(crate) fn commonest(kinds: impl Iterator<Item = RecordKind>) -> Option<RecordKind> {
    let mut counts = [
        (RecordKind::Classified, 0u64),
        (RecordKind::Example, 0),
        (RecordKind::Labelled, 0),
        (RecordKind::Group, 0),
        (RecordKind::Pair, 0),
    ];
    for kind in kinds {
        counts.iter_mut().filter(|(counted, _)| *counted == kind).for_each(|(_, count)| *count += 1);
    }
    counts.into_iter().filter(|(_, count)| *count > 0).max_by_key(|(_, count)| *count).map(|(kind, _)| kind)
}

/// Notes the usable entries of a file and checks them.
struct Reader<'a> {
    path: Arc<Path>,
    dataset: &'a Dataset,
    /// True if the first bad row ends the reading.
    fail_fast: bool,
    /// True if the rows and the model directory are checked.
    check: bool,
    tokenizer: &'a ChatTokenizer,
    tally: Option<Tally>,
    contents: Contents,
}

impl Reader<'_> {
    /// The reason why an entry is not used, with the name of the rule that it breaks.
    fn problem(&mut self, entry: &Entry) -> Option<(&'static str, String)> {
        let Ok(record) = &entry.record else {
            return entry.problem(self.dataset.kind).map(|problem| (Rule::UnreadableRow.id(), problem));
        };
        if let Some(problem) = entry.problem(self.dataset.kind) {
            return Some((WRONG_KIND, problem));
        }
        if let Some(problem) = record.labels().and_then(|labels| self.dataset.classes.problem(labels)) {
            return Some((WRONG_LABEL, problem));
        }
        if self.dataset.on_bad_rows == OnBadRows::Fail {
            return None;
        }
        let condemned =
            condemned(record, &self.dataset.truncation, self.tokenizer).map(|(rule, problem)| (rule.id(), problem));
        if condemned.is_none() {
            self.contents.kinds.push((entry.line, record.inspection.kind));
        }
        condemned
    }
}

/// The first error that the data check finds in a record.
pub(crate) fn condemned(
    record: &TokenizedRecord,
    truncation: &Truncation,
    tokenizer: &ChatTokenizer,
) -> Option<(Rule, String)> {
    let broken = record.inspection.broken.iter().cloned().chain(record.truncated(truncation, tokenizer));
    let errors = broken.filter(|(rule, _)| rule.severity() == Severity::Error);
    errors.min_by_key(|(rule, _)| *rule).map(|(rule, detail)| (rule, explained(rule, &detail)))
}

/// A broken rule as the problem of a row.
pub(crate) fn explained(rule: Rule, detail: &str) -> String {
    match detail {
        "" => rule.what().to_string(),
        detail => format!("{} ({detail})", rule.what()),
    }
}

impl Visitor for Reader<'_> {
    fn begin(&mut self) {
        self.tally = self.check.then(|| Tally::of_model(Some(self.tokenizer)));
        self.contents = Contents::default();
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), DatasetError> {
        if let Some(tally) = &mut self.tally {
            tally.entry(entry, &self.dataset.truncation, Some(self.tokenizer));
        }
        let problem = self.problem(entry);
        self.contents.usable.push(problem.is_none());
        if let Some((rule, problem)) = problem {
            let location = Location { path: self.path.clone(), line: entry.line };
            let error = DatasetError::Row { location, problem };
            self.contents.bad.add(rule, &error);
            if self.fail_fast {
                return Err(error);
            }
            self.contents.first_bad.get_or_insert(error);
        }
        Ok(())
    }

    fn damage(&mut self, error: ReadError) -> Result<(), DatasetError> {
        if error.is_of_the_machine() {
            return Err(error.into());
        }
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
