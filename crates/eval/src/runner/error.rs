//! Errors of sampling a suite.

use std::path::PathBuf;

use smpo_inference::InferenceError;
use smpo_results::files;

/// Errors of [`super::sample_suite`].
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file of the directory.
    #[error(transparent)]
    File(#[from] files::Error),
    /// I/O error.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation.
        action: &'static str,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The directory holds another run.
    #[error("{}: holds a run with another {field}: expected {expected}, found {found}; choose another directory, or restart", dir.display())]
    OtherRun {
        /// The directory.
        dir: PathBuf,
        /// The first field that differs.
        field: &'static str,
        /// Value of this run.
        expected: String,
        /// Value in the directory.
        found: String,
    },
    /// Samples that are not of this run.
    #[error("{}: {problem}", path.display())]
    ForeignSample {
        /// The file.
        path: PathBuf,
        /// Expected and found.
        problem: String,
    },
    /// Another process is sampling into the directory.
    #[error("{}: another smpo is sampling into this directory; wait for it or choose another directory", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// Too many failures in a row.
    #[error(
        "the engine failed {count} times in a row, last error: {last}; finished samples are kept, running again resumes"
    )]
    Failing {
        /// Number of failures.
        count: usize,
        /// The last error.
        last: InferenceError,
    },
    /// None of the requests can be given to the model; another engine would not help.
    #[error(
        "{count} of {count} prompts cannot be given to the model, so nothing is measured; mend what is named: {last}"
    )]
    Unusable {
        /// Number of requests that were tried.
        count: usize,
        /// The last one's error.
        last: String,
    },
    /// The first request failed, and so will every other.
    #[error("{0}")]
    Fatal(InferenceError),
    /// Every worker of a fleet was set aside.
    #[error(
        "no server or device is left to sample with; {done} of {total} samples are kept, running again resumes{}",
        workers.iter().map(|(worker, reason)| format!("\n  {worker}: {reason}")).collect::<String>()
    )]
    NoneLeft {
        /// The workers, with the last reason for which each was set aside.
        workers: Vec<(String, String)>,
        /// Samples that exist.
        done: usize,
        /// Samples of the whole suite.
        total: usize,
    },
    /// No generator was given.
    #[error("no generator to sample with")]
    NoGenerator,
}
