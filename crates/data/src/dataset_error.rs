//! Reasons why a data set gives no rows.

use std::io;
use std::path::PathBuf;

use crate::mixture::MixtureError;
use crate::read_error::{Location, ReadError};

/// Reason why a data set gives no rows.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A data file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A row cannot be read, is of the wrong kind, or cannot be rendered or tokenised.
    #[error("{location}: {problem}")]
    Row {
        /// Place of the row.
        location: Location,
        /// The problem with it.
        problem: String,
    },
    /// Nothing is left of a completion.
    #[error("{location}: {}", vanished(*max_length))]
    Vanished {
        /// Place of the row.
        location: Location,
        /// Maximum tokens of prompt and completion together.
        max_length: Option<usize>,
    },
    /// Rows cannot be split, mixed or sampled as configured.
    #[error("{file}: {source}", file = file.display())]
    Mixture {
        /// The file that was being split, or the first of all.
        file: PathBuf,
        /// The impossible split, mixture or sample.
        source: MixtureError,
    },
    /// Nothing is left to train on.
    #[error(
        "{file}: no row to train on: expected {expected}, got {got}", file = file.display()
    )]
    NoRows {
        /// The first file.
        file: PathBuf,
        /// Kind of rows.
        expected: &'static str,
        /// Rows found, by rule, with the first problem.
        got: String,
    },
    /// A file was written to while it was read.
    #[error("{file}: has changed since a moment ago; it must not change while it is read", file = file.display())]
    Changed {
        /// The file.
        file: PathBuf,
    },
    /// The tokens of a file cannot be read back.
    #[error("{file}: cannot read its tokens: {source}", file = file.display())]
    Tokens {
        /// The data file.
        file: PathBuf,
        /// I/O error of the token cache.
        source: io::Error,
    },
}

/// The problem of a row of which nothing is left of a completion.
fn vanished(max_length: Option<usize>) -> String {
    match max_length {
        Some(max_length) => format!(
            "in {max_length} tokens, nothing is left of a completion but, at most, its terminator; expected room for at \
             least one token of it beside the prompt: raise max_length, or lower max_prompt_length"
        ),
        None => {
            "nothing of a completion is scored: it was cut before its first word, or all of its answers are context; \
                 expected at least one token"
                .into()
        }
    }
}
