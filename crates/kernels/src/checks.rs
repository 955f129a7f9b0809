//! Refusals that several operations share: rank, shape, token ids.

use crate::error::{KernelError, Result};
use candle_core::Tensor;

/// Rows and width of a tensor (…, W): the product of all dimensions but the last, and the last.
pub(crate) fn rows(
    op: &'static str,
    argument: &'static str,
    expected: &'static str,
    tensor: &Tensor,
) -> Result<(usize, usize)> {
    match tensor.dims() {
        [] => Err(KernelError::Rank { op, argument, expected, got: vec![] }),
        [before @ .., last] => Ok((before.iter().product(), *last)),
    }
}

/// Rows and columns of a matrix.
pub(crate) fn matrix(
    op: &'static str,
    argument: &'static str,
    expected: &'static str,
    tensor: &Tensor,
) -> Result<(usize, usize)> {
    match tensor.dims() {
        &[rows, columns] => Ok((rows, columns)),
        got => Err(KernelError::Rank { op, argument, expected, got: got.to_vec() }),
    }
}

/// Refuses any shape but `expected`.
pub(crate) fn same_shape(op: &'static str, argument: &'static str, expected: &[usize], tensor: &Tensor) -> Result<()> {
    if tensor.dims() == expected {
        return Ok(());
    }
    Err(KernelError::Shape { op, argument, expected: format!("{expected:?}"), got: tensor.dims().to_vec() })
}

/// Refuses ids outside the vocabulary.
pub(crate) fn check_ids(op: &'static str, what: &'static str, ids: &[u32], vocabulary: usize) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= vocabulary) {
        None => Ok(()),
        Some(index) => Err(KernelError::OutOfVocabulary { op, what, index, id: ids[index], vocabulary }),
    }
}
