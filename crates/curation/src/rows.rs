//! Rows of all sources in order: those of the suites and files to compare with first, then those of the inputs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use smpo_data::{JsonRow, Location, Purpose, json_rows, source_files};
use smpo_eval::Suite;

use crate::CurationError;

/// Rows that are read at once; bounds memory.
pub(crate) const CHUNK: usize = 1024;

/// Files to read, and to read again.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// Suites, in the order given.
    suites: Vec<(Arc<Path>, Suite)>,
    /// Other files to compare with.
    against: Vec<PathBuf>,
    inputs: Vec<PathBuf>,
}

impl Sources {
    /// Finds the files; suites are read.
    pub fn open(inputs: &[PathBuf], against: &[PathBuf]) -> Result<Self, CurationError> {
        let mut sources = Sources { suites: Vec::new(), against: Vec::new(), inputs: Vec::new() };
        for path in against {
            match path.extension().is_some_and(|extension| extension == "toml") {
                true => sources.suites.push((path.as_path().into(), Suite::read(path)?)),
                false => sources.against.extend(files(path, Purpose::HoldOut)?),
            }
        }
        for path in inputs {
            sources.inputs.extend(files(path, Purpose::Train)?);
        }
        Ok(sources)
    }

    /// Number of input files.
    pub fn input_files(&self) -> usize {
        self.inputs.len()
    }

    /// Rows to compare with.
    pub fn references(&self) -> Result<impl Iterator<Item = Result<JsonRow, CurationError>> + use<'_>, CurationError> {
        let of_suites = self.suites.iter().flat_map(|(path, suite)| {
            suite.prompts.iter().enumerate().map(move |(index, prompt)| {
                let location = Location { path: path.clone(), line: index as u64 + 1 };
                let row = json!({"id": prompt.id, "messages": prompt.messages});
                Ok(JsonRow { location, json: row.to_string().into_bytes() })
            })
        });
        let files = match self.against.is_empty() {
            true => None,
            false => Some(json_rows(self.against.clone())?),
        };
        Ok(of_suites.chain(files.into_iter().flatten().map(|row| Ok(row?))))
    }

    /// Rows of the inputs.
    pub fn inputs(&self) -> Result<impl Iterator<Item = Result<JsonRow, CurationError>> + use<>, CurationError> {
        Ok(json_rows(self.inputs.clone())?.map(|row| Ok(row?)))
    }
}

fn files(source: &Path, purpose: Purpose) -> Result<Vec<PathBuf>, CurationError> {
    let files = source_files(source, purpose)?;
    match files
        .iter()
        .find(|file| std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()))
    {
        Some(pipe) => Err(CurationError::Pipe { path: pipe.display().to_string() }),
        None => Ok(files),
    }
}
