//! Errors of curation.

use smpo_data::{Location, ReadError};
use smpo_eval::InputError;
use smpo_files::FileError;
use smpo_inference::InferenceError;
use smpo_model::ModelError;

/// Error of curation; output files are then as they were.
#[derive(Debug, thiserror::Error)]
pub enum CurationError {
    /// A row or a file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A suite cannot be read.
    #[error(transparent)]
    Suite(#[from] InputError),
    /// A row lacks what is asked of it.
    #[error("{location}: {problem}")]
    Row {
        /// Its place.
        location: Location,
        /// Expected and got.
        problem: String,
    },
    /// An option is out of range.
    #[error("{0}")]
    Option(String),
    /// A file changed while it was read.
    #[error("{location}: the row changed while the files were read; run the command again when nothing writes to them")]
    Changed {
        /// Its place.
        location: Location,
    },
    /// A source that can be read only once.
    #[error("{path}: rows are read more than once, which a pipe does not allow; save them as a file first")]
    Pipe {
        /// The source.
        path: String,
    },
    /// There are no embeddings.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// The model refuses a row.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A product of embeddings failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// The temporary file of shingles failed.
    #[error("{0}; TMPDIR names another directory for it")]
    Temporary(#[source] FileError),
}

impl CurationError {
    pub(crate) fn row(location: &Location, problem: impl Into<String>) -> Self {
        Self::Row { location: location.clone(), problem: problem.into() }
    }
}
