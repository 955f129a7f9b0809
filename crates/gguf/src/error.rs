//! Errors of this crate, with file, field, expected and found.

use std::path::{Path, PathBuf};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// I/O error.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Verb of the failed action.
        action: &'static str,
        /// Source.
        source: std::io::Error,
    },

    /// A part of the header or of the metadata is missing or wrong.
    #[error("{}: `{field}`: expected {expected}, got {got}", path.display())]
    Field {
        /// File.
        path: PathBuf,
        /// Part of the header, key of the metadata, or tensor.
        field: String,
        /// Valid values.
        expected: String,
        /// Value found.
        got: String,
    },

    /// The file is sound and uses something that is not read.
    #[error("{}: {feature}", path.display())]
    Unsupported {
        /// File.
        path: PathBuf,
        /// Feature, with what is supported and what to do.
        feature: String,
    },
}

/// Result type of this crate.
pub type Result<T> = std::result::Result<T, GgufError>;

impl GgufError {
    pub(crate) fn io<'a>(path: &'a Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { path: path.to_path_buf(), action, source }
    }

    pub(crate) fn unsupported(path: &Path, feature: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_path_buf(), feature: feature.into() }
    }

    /// A field that is not as expected.
    pub fn field(
        path: &Path,
        field: impl Into<String>,
        expected: impl Into<String>,
        got: impl std::fmt::Display,
    ) -> Self {
        Self::Field {
            path: path.to_path_buf(),
            field: field.into(),
            expected: expected.into(),
            got: shortened(&got.to_string()),
        }
    }
}

/// At most the first characters of a value, for messages.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}
