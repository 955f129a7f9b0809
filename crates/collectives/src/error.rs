/// Failure of a collective operation, or of the start of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectiveError {
    /// A rank ended before it took part.
    #[error("rank {0} ended before the others; its own message says why")]
    Gone(usize),
    /// Ranks gave sums of different lengths.
    #[error("expected as many values of every rank, got {own} here and {other} of rank {rank}")]
    Lengths {
        /// Values of this rank.
        own: usize,
        /// Values of the other.
        other: usize,
        /// The other.
        rank: usize,
    },
    /// A launcher's variable is not a number that makes sense.
    #[error(
        "environment variable {name}: expected {expected}, got `{got}`; start the ranks with {launcher}, or unset it"
    )]
    Variable {
        /// Its name.
        name: String,
        /// Numbers that make sense.
        expected: String,
        /// Its value.
        got: String,
        /// The launcher whose variable it is.
        launcher: &'static str,
    },
    /// An operation failed, or took too long.
    #[error("{operation}: {message}")]
    Failed {
        /// Its name in the library.
        operation: &'static str,
        /// The reason.
        message: String,
    },
    /// The library could not start, or says other numbers than the launcher.
    #[error("{library}: {message}")]
    Start {
        /// The library.
        library: &'static str,
        /// The reason.
        message: String,
    },
}
