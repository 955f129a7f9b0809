//! What is wrong with a file that people wrote, and where.

use std::path::{Path, PathBuf};

/// A file of prompts, a suite or a file of completions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The operating system said no.
    #[error("{}: cannot read: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file of the schema could not be read.
    #[error(transparent)]
    File(#[from] smpo_results::Error),
    /// One line is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// 1-based line; the number of the element in a JSON array.
        line: usize,
        /// What was expected and found.
        problem: String,
    },
    /// The file as a whole is wrong.
    #[error("{}: {problem}", path.display())]
    Whole {
        /// Which file.
        path: PathBuf,
        /// What was expected and found.
        problem: String,
    },
}

impl InputError {
    pub(crate) fn line(path: &Path, line: usize, problem: impl Into<String>) -> Self {
        InputError::Line { path: path.to_owned(), line, problem: problem.into() }
    }

    pub(crate) fn whole(path: &Path, problem: impl Into<String>) -> Self {
        InputError::Whole { path: path.to_owned(), problem: problem.into() }
    }
}
