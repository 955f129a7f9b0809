//! Labels of texts: those of a run, and those that its files have.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::columns::Columns;
use crate::preparation::Reading;
use crate::read_error::ReadError;
use crate::reader::{Layout, records_with};
use crate::record::Record;
use crate::sources::Purpose;
use crate::tokenized_record::Labels;

/// Labels that texts can have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes {
    /// Their names, in the order of their indices.
    pub names: Vec<String>,
    /// True if a text may have several, or none.
    pub several: bool,
}

/// Labels that an error lists.
const LISTED: usize = 20;

impl Classes {
    /// The labels of some files, sorted: whole numbers by their size, before texts. Rows that cannot be read have none.
    ///
    /// # Errors
    /// When a file cannot be opened or read to its end.
    pub fn of_files(files: &[PathBuf], columns: &[Columns]) -> Result<Self, ReadError> {
        let (mut found, mut several) = (BTreeSet::new(), false);
        for file in files {
            let columns = Columns::of(columns, file, Purpose::Train)?;
            for row in records_with(file, Layout { columns, reading: Reading::Labels })? {
                match row {
                    Ok(row) => {
                        let Record::Classified(row) = row.record else { continue };
                        several |= row.labels.is_some();
                        found.extend(row.labels.into_iter().flatten().chain(row.label));
                    }
                    Err(error) if error.is_row() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let mut names: Vec<String> = found.into_iter().collect();
        let number = |name: &str| name.parse::<i64>().ok();
        // stable: texts stay in their order
        names.sort_by_key(|name| (number(name).is_none(), number(name)));
        Ok(Self { names, several })
    }

    /// The reason why a row with these labels is none of the run.
    pub(crate) fn problem(&self, labels: &Labels) -> Option<String> {
        if let Some(unknown) = labels.names.iter().find(|name| !self.names.contains(name)) {
            let shown: Vec<String> = self.names.iter().take(LISTED).map(|name| format!("{name:?}")).collect();
            let more = if self.names.len() > LISTED { ", …" } else { "" };
            let hint = smpo_suggest::did_you_mean(unknown, self.names.iter().map(String::as_str));
            return Some(format!("label {unknown:?}: expected one of {}{more}{hint}", shown.join(", ")));
        }
        match labels.names.len() {
            _ if self.several => None,
            1 => None,
            got => Some(format!("expected one label, got {got}: set `problem_type` = \"multi_label_classification\"")),
        }
    }

    /// Indices of labels.
    pub(crate) fn indices(&self, names: &[String]) -> Vec<usize> {
        names.iter().filter_map(|name| self.names.iter().position(|known| known == name)).collect()
    }
}
