//! Errors of the Hub.

use std::io;
use std::path::PathBuf;

/// Reason why a repository cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A name that is none.
    #[error("{name}: expected hf://ORG/MODEL[@REVISION] or hf://datasets/ORG/NAME[@REVISION][/PATH], got {problem}")]
    Name {
        /// The name.
        name: String,
        /// The problem with it.
        problem: &'static str,
    },
    /// The Hub refuses it, or cannot be reached.
    #[error("{name}: {problem}")]
    Request {
        /// The name.
        name: String,
        /// The answer, and what to do.
        problem: String,
    },
    /// Nothing of it is in the cache.
    #[error("{name}: HF_HUB_OFFLINE is set, and {path} holds no copy; unset it to download one, or copy that folder from where there is one", path = path.display())]
    NotCached {
        /// The name.
        name: String,
        /// Folder of the cache.
        path: PathBuf,
    },
    /// The cache cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Cache {
        /// Folder of the cache.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}
