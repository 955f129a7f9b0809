//! Rows of a table by token id.

use crate::dense::{Dense, matrix};
use crate::device::{self, engine};
use crate::error::{KernelError, Result};
use crate::graph::record;
use crate::parallel::tasks;
use crate::simd::add_assign;
use crate::untouched;
use candle_core::Tensor;

const OP: &str = "embedding";

/// Refuses ids outside the vocabulary.
pub(crate) fn check_ids(op: &'static str, what: &'static str, ids: &[u32], vocabulary: usize) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= vocabulary) {
        None => Ok(()),
        Some(index) => Err(KernelError::OutOfVocabulary { op, what, index, id: ids[index], vocabulary }),
    }
}

/// `weight` (V, H) and `N` ids to (N, H). The backward pass adds the rows of one id in the order of
/// the tokens.
///
/// # Errors
///
/// [`KernelError::OutOfVocabulary`] for an id of V or more; [`KernelError::Rank`],
/// [`KernelError::Type`], [`KernelError::Device`] for an unfit weight.
pub fn embedding(weight: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let (vocabulary, width) = matrix(OP, "weight", "(V, H)", weight)?;
    check_ids(OP, "token", ids, vocabulary)?;
    if let Some(engine) = engine(weight) {
        return device::embedding(&engine, weight, ids);
    }
    let table = Dense::new(OP, "weight", weight)?;
    let table = table.read();
    let mut values = Vec::with_capacity(ids.len() * width);
    for &id in ids {
        let start = id as usize * width;
        values.extend_from_slice(&table[start..start + width]);
    }
    drop(table);
    let shape = [ids.len(), width];
    let ids = ids.to_vec();
    record(OP, &[weight], values, &shape, move |gradient, _, out| {
        out.deliver(0, |buffer| {
            if !buffer.accumulate {
                untouched::clear(&mut buffer.values);
            }
            scatter_add(&mut buffer.values, &ids, gradient, width);
        })
    })
}

/// Columns of one task: wide enough to vectorise, few enough to spread a batch over threads.
const STRIPE: usize = 64;

/// `table[ids[n]] += rows[n]`; tasks own columns, so every element is summed in token order.
fn scatter_add(table: &mut [f32], ids: &[u32], rows: &[f32], width: usize) {
    let stripes = width.div_ceil(STRIPE);
    let shared = crate::parallel::Shared::new(table);
    tasks(stripes, rows.len(), |stripe| {
        let start = stripe * STRIPE;
        let len = STRIPE.min(width - start);
        for (&id, row) in ids.iter().zip(rows.chunks_exact(width.max(1))) {
            // SAFETY: the columns of this stripe belong to this task alone.
            let target = unsafe { shared.slice(id as usize * width + start, len) };
            add_assign(target, &row[start..start + len]);
        }
    });
}
