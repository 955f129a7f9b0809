//! Completions and prompts of all files, on disk: memory holds their places.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use smpo_files::{FileError, Span, Spool};

/// Completions that are being sorted, in a temporary file.
#[derive(Debug)]
pub struct Store(Spool);

impl Store {
    /// A store on the filesystem of the results, whose directory need not be there yet.
    pub fn beside(results: &Path) -> Self {
        Store(Spool::beside(results))
    }

    /// Takes a sample or a prompt.
    pub(super) fn put(&mut self, value: &impl Serialize) -> Result<Span, smpo_results::Error> {
        let text = serde_json::to_vec(value).map_err(|error| self.damaged(error))?;
        Ok(self.0.push(&text)?)
    }

    /// The sample or prompt at a place.
    pub(super) fn get<T: DeserializeOwned>(&self, span: Span) -> Result<T, smpo_results::Error> {
        serde_json::from_slice(&self.0.read(span)?).map_err(|error| self.damaged(error).into())
    }

    /// The file is this process's own: whatever is not as it was written was changed on the disk.
    fn damaged(&self, error: serde_json::Error) -> FileError {
        FileError::at(self.0.dir(), "read a temporary file in it")(io::Error::other(error))
    }
}
