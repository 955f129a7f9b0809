//! Errors of tracking.

use std::path::PathBuf;

use smpo_files::FileError;

/// Reason for which a run cannot be tracked.
#[derive(Debug, thiserror::Error)]
pub enum TrackingError {
    /// A variable of the environment is missing or wrong.
    #[error("{variable}: {problem}")]
    Setting {
        /// Name.
        variable: &'static str,
        /// Expected and found.
        problem: String,
    },
    /// The server cannot be reached.
    #[error("MLflow at {server} cannot be reached: {problem}")]
    Unreachable {
        /// Address without credentials.
        server: String,
        /// The connection's error.
        problem: String,
    },
    /// The server refused a request.
    #[error("MLflow at {server} refused {path} with {status}: {message}")]
    Refused {
        /// Address without credentials.
        server: String,
        /// Path of the request.
        path: String,
        /// HTTP status.
        status: u16,
        /// Error code of MLflow, such as `RESOURCE_DOES_NOT_EXIST`; empty if there is none.
        code: String,
        /// Message of the server.
        message: String,
    },
    /// An answer lacks a field.
    #[error("MLflow at {server}: the answer to {path} has no {field}; expected an MLflow server of version 2 or 3")]
    Answer {
        /// Address without credentials.
        server: String,
        /// Path of the request.
        path: String,
        /// Field.
        field: &'static str,
    },
    /// Artefacts of this server are stored elsewhere.
    #[error(
        "artefacts of this run are kept at {location}, which MLflow does not take over HTTP: start `mlflow server` with \
         --serve-artifacts, its default, for an experiment that is created under it"
    )]
    ArtifactStore {
        /// Location of the run's artefacts.
        location: String,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line of metrics, or the state, is no JSON of the kind expected.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// File.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Expected and found.
        problem: String,
    },
    /// A directory without metrics.
    #[error("{}: expected a run directory of `smpo train`, with metrics.jsonl in it", dir.display())]
    NoRun {
        /// Directory.
        dir: PathBuf,
    },
}

impl TrackingError {
    /// True for MLflow's error code `code`.
    pub(crate) fn is(&self, expected: &str) -> bool {
        matches!(self, TrackingError::Refused { code, .. } if code == expected)
    }
}
