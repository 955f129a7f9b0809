//! Explanation of a loss on given log-probs: its parts, its clipping, the weight of every token, and the tokens that
//! carry most of the gradient. All rows are one batch.

mod report;
mod row;
mod tokens;

pub use report::{Clip, MemberReport, PairReport, Report};
pub use row::{Row, RowMember, RowTokens};
pub use tokens::{TokenSummary, sides, summarize};

use crate::batch::{Batch, Member, Pair};
use crate::error::BatchError;
use crate::evaluation::Evaluation;
use crate::objective::Objective;
use crate::state::LossState;

/// Rows that do not fit a loss.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ExplainError {
    /// A row lacks a completion or log-probs that this loss needs.
    #[error("`{field}`: expected {expected}, got nothing")]
    Missing {
        /// Index of the row.
        row: usize,
        /// The absent field, as in `chosen.ref_logps`.
        field: String,
        /// Description of the expected value.
        expected: String,
    },
    /// The batch as a whole does not fit the loss.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Evaluates `objective` on all rows as one batch, at the end of its schedules.
///
/// # Errors
///
/// [`ExplainError`] with the index of a row that does not fit the loss.
pub fn explain(objective: &Objective, rows: &[Row<'_>]) -> Result<Evaluation, ExplainError> {
    for (index, row) in rows.iter().enumerate() {
        row.check(index, objective)?;
    }
    let groups: Vec<Vec<Member<'_>>> = rows.iter().map(Row::members).collect();
    let pairs: Vec<Pair<'_>> = rows.iter().zip(&groups).map(|(row, group)| row.pair(group)).collect();
    let mismatched: Vec<_> = rows.iter().filter_map(|row| row.kl).collect();
    let batch = Batch { mismatched: &mismatched, ..Batch::new(&pairs) };
    Ok(objective.evaluate(&batch, &mut LossState::default())?)
}
