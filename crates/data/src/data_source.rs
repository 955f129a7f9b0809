//! A source of rows in a run: one data file, or several that count as one.

use std::io;
use std::path::Path;

use crate::check::CheckReport;
use crate::data_file::DataFile;
use crate::dataset::{BadRows, Dataset, OnBadRows, Work};
use crate::dataset_error::DatasetError;
use crate::read_error::Location;
use crate::sources::{Purpose, source_files};
use crate::token_file::Opener;
use crate::tokenized_record::Entry;

/// The files of a source, tokenised.
#[derive(Debug)]
pub(crate) struct DataSource {
    files: Vec<DataFile>,
}

impl DataSource {
    /// Reads every file of a source once and, with `check`, checks it; `None` when interrupted.
    pub fn open(
        source: &Path,
        purpose: Purpose,
        dataset: &Dataset,
        check: bool,
        opener: &mut Opener<'_>,
    ) -> Result<Option<(Self, Vec<CheckReport>)>, DatasetError> {
        let (mut files, mut reports) = (Vec::new(), Vec::new());
        for path in source_files(source, purpose)? {
            let Some((file, report)) = DataFile::open(&path, dataset, check, opener)? else { return Ok(None) };
            files.push(file);
            reports.extend(report);
        }
        Ok(Some((Self { files }, reports)))
    }

    /// Work that reading the files took.
    pub fn work(&self) -> Work {
        Work {
            parsed_files: self.files.iter().filter(|file| file.parsed).count(),
            tokenized_records: self.files.iter().map(|file| file.tokenized).sum(),
        }
    }

    /// Number of entries that can be used.
    pub fn usable(&self) -> usize {
        self.files.iter().map(DataFile::usable).sum()
    }

    /// The bad rows.
    ///
    /// # Errors
    /// As [`DataFile::take_bad`].
    pub fn take_bad(&mut self, on_bad_rows: OnBadRows) -> Result<BadRows, DatasetError> {
        let mut bad = BadRows::default();
        for file in &mut self.files {
            bad.append(file.take_bad(on_bad_rows)?);
        }
        Ok(bad)
    }

    /// The first error of writing the token cache.
    pub fn take_write_error(&mut self) -> Option<io::Error> {
        self.files.iter_mut().find_map(|file| file.write_error.take())
    }

    /// Reads the usable entries that `wanted` is true for, by their rank among the usable ones of all files.
    pub fn read(
        &mut self,
        wanted: impl Fn(usize) -> bool,
        mut visit: impl FnMut(usize, Location, Entry) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let mut before = 0;
        for file in &mut self.files {
            let usable = file.usable();
            if (before..before + usable).any(&wanted) {
                file.read(|rank| wanted(before + rank), |rank, at, entry| visit(before + rank, at, entry))?;
            }
            before += usable;
        }
        Ok(())
    }
}
