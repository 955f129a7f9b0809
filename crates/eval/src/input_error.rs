//! Errors in input files, with their lines.

use std::path::{Path, PathBuf};

/// A file of prompts, a suite or a file of completions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// I/O error.
    #[error("{}: cannot read: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A file of the schema could not be read.
    #[error(transparent)]
    File(#[from] smpo_results::Error),
    /// An error in one line.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// File.
        path: PathBuf,
        /// 1-based line; the number of the element in a JSON array.
        line: usize,
        /// Expected and found.
        problem: String,
    },
    /// An error of the whole file.
    #[error("{}: {problem}", path.display())]
    Whole {
        /// File.
        path: PathBuf,
        /// Expected and found.
        problem: String,
    },
}

impl InputError {
    /// An error in one line.
    pub fn line(path: &Path, line: usize, problem: impl Into<String>) -> Self {
        InputError::Line { path: path.to_owned(), line, problem: problem.into() }
    }

    /// With a remark after the problem.
    pub(crate) fn with_remark(mut self, remark: &str) -> Self {
        if let InputError::Line { problem, .. } | InputError::Whole { problem, .. } = &mut self {
            problem.push_str(remark);
        }
        self
    }

    pub(crate) fn whole(path: &Path, problem: impl Into<String>) -> Self {
        InputError::Whole { path: path.to_owned(), problem: problem.into() }
    }
}
