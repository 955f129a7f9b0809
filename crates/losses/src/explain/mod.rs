//! What a loss does with stored log-probs: its parts, its clipping, the weight of every token, and the tokens that carry
//! most of the gradient. All rows are one batch.

mod report;
mod row;
mod tokens;

use std::path::PathBuf;

pub use report::{Clip, PairReport, Report};
pub use row::{Row, RowError, RowTokens, read_rows};
pub use tokens::{TokenSummary, summarize};

use crate::batch::{Batch, Pair, Side};
use crate::error::BatchError;
use crate::evaluation::Evaluation;
use crate::objective::Objective;
use crate::transform::WinsorState;

/// Why stored log-probs cannot be explained.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ExplainError {
    /// A row lacks what this loss needs.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The batch as a whole does not fit the loss.
    #[error("{}: {source}", path.display())]
    Batch {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: BatchError,
    },
}

/// Evaluates `objective` on all rows as one batch, at the end of its schedules.
///
/// # Errors
///
/// [`ExplainError`] with path and line where one row is at fault.
pub fn explain(objective: &Objective, path: &std::path::Path, rows: &[Row]) -> Result<Evaluation, ExplainError> {
    for row in rows {
        row.check(path, objective)?;
    }
    let pairs: Vec<Pair<'_>> = rows
        .iter()
        .map(|row| Pair {
            chosen: row.side(Side::Chosen).map(RowTokens::completion),
            rejected: row.side(Side::Rejected).map(RowTokens::completion),
        })
        .collect();
    let mismatched: Vec<_> = rows.iter().filter_map(|row| row.kl.as_ref()).map(RowTokens::completion).collect();
    let batch = Batch { mismatched: &mismatched, ..Batch::new(&pairs) };
    objective
        .evaluate(&batch, &mut WinsorState::default())
        .map_err(|source| ExplainError::Batch { path: path.to_owned(), source })
}
