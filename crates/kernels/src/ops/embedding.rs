//! Rows of a table by token id.

use super::weight;
use crate::autograd::{push_on, record, single, tracks};
use crate::checks::check_ids;
use crate::cpu::embedding::scatter_add;
use crate::cpu::weight::{Table, Weight};
use crate::cpu::{self, zero_blocks};
use crate::device::embedding::{ById, gather};
use crate::device::{Engine, Operand, Role};
use crate::error::Result;
use candle_core::Tensor;

const OP: &str = "embedding";

/// `weight` (V, H) and `N` ids to (N, H); on the CPU float32, also from a frozen table in 16 bits or packed blocks. The
/// backward pass adds the rows of one id in the order of the tokens.
///
/// # Errors
///
/// [`crate::KernelError::OutOfVocabulary`] for an id of V or more; [`crate::KernelError::Rank`],
/// [`crate::KernelError::Type`], [`crate::KernelError::Device`] for an unfit weight.
pub fn embedding<'w>(weight: impl Into<Weight<'w>>, ids: &[u32]) -> Result<Tensor> {
    let weight = weight.into();
    let (vocabulary, _) = weight::extents(OP, "weight", "(V, H)", weight)?;
    check_ids(OP, "token", ids, vocabulary)?;
    match weight {
        Weight::Tensor(tensor) => match Engine::of(tensor) {
            None => on_cpu(weight, ids),
            Some(engine) => on_device(&engine, tensor, ids),
        },
        Weight::Packed(_) => on_cpu(weight, ids),
    }
}

fn on_cpu(weight: Weight<'_>, ids: &[u32]) -> Result<Tensor> {
    let (_, width) = weight::extents(OP, "weight", "(V, H)", weight)?;
    let table = Table::new(OP, "weight", weight)?;
    let values = cpu::embedding::gather(table.read().elements(), ids, width);
    let shape = [ids.len(), width];
    let ids = ids.to_vec();
    let arguments: Vec<&Tensor> = weight.tracked().into_iter().collect();
    record(OP, &arguments, values, &shape, move |gradient, _, sink| {
        sink.deliver(0, |buffer| {
            if !buffer.accumulate {
                zero_blocks::clear(&mut buffer.values);
            }
            scatter_add(&mut buffer.values, &ids, gradient, width);
        })
    })
}

fn on_device(engine: &Engine, weight: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let tracked = tracks(OP, &[weight])?;
    let table = Operand::first(engine, OP, "weight", weight)?;
    let (_, width) = weight.dims2()?;
    let dtype = weight.dtype();
    let out = engine.allocate(dtype, &[ids.len(), width], Role::leaf_if(tracked))?;
    gather(engine, table.tensor(), &engine.upload(ids)?, &out)?;
    if !tracked {
        return Ok(out);
    }
    let (own, by_id) = (engine.clone(), ById::new(ids));
    push_on(engine, &[weight], &[&out], move |gradients, sink| {
        let dy = single(gradients, OP)?;
        sink.deliver(0, dtype, |grad| {
            if !grad.accumulate {
                grad.tensor.zero_set()?;
            }
            by_id.add(&own, dy, &grad.tensor, width)
        })
    })?;
    Ok(out)
}
