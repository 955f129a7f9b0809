//! Errors of rendering.

/// A document could not be rendered. The causes are inside the program or the allocator, never in the input.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The page template failed.
    #[error("cannot render the page: {0}")]
    Page(#[from] askama::Error),
    /// The data could not be written as JSON.
    #[error("cannot write {what} as JSON: {source}")]
    Json {
        /// The document.
        what: &'static str,
        /// The serializer's error.
        source: serde_json::Error,
    },
    /// The report could not be written as XML.
    #[error("cannot write the verdict as JUnit XML: {0}")]
    Junit(#[from] std::io::Error),
}
