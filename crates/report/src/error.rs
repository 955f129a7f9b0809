//! What can go wrong while rendering.

/// A document could not be rendered. Every cause is inside the program or the allocator: no input makes one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The page template failed.
    #[error("cannot render the page: {0}")]
    Page(#[from] askama::Error),
    /// The data could not be written as JSON.
    #[error("cannot write {what} as JSON: {source}")]
    Json {
        /// Which document.
        what: &'static str,
        /// The serializer's words.
        source: serde_json::Error,
    },
    /// The report could not be written as XML.
    #[error("cannot write the verdict as JUnit XML: {0}")]
    Junit(#[from] quick_junit::SerializeError),
}
