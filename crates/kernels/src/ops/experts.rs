//! Routed experts: their choice, and the weighted sum of their outputs (Shazeer et al. 2017, arXiv 1701.06538). On the
//! CPU alone.

use crate::autograd::{is_recording, record};
use crate::checks::{matrix, same_shape};
use crate::cpu::Dense;
use crate::cpu::experts::{self, combine_backward_rows, combine_backward_weights, route_backward};
use crate::device::Engine;
use crate::error::{KernelError, Result};
use crate::options::{Balance, RouterOptions, Routing};
use candle_core::Tensor;
use std::sync::Arc;

const ROUTE: &str = "route";
const COMBINE: &str = "combine";

/// Result of [`route`].
#[derive(Clone, Debug)]
pub struct Routed {
    /// Weight of each slot, (N, k).
    pub weights: Tensor,
    /// Experts of each token.
    pub routing: Arc<Routing>,
}

/// The `k` experts of each token with the largest softmax of `logits` (N, E), and their probabilities, normalised on
/// demand. A `balance` counts them, and its loss has a gradient with respect to the logits.
///
/// # Errors
///
/// [`KernelError::Option`] unless 1 ≤ k ≤ E; [`KernelError::Rank`], [`KernelError::Type`], [`KernelError::Device`] for
/// unfit logits.
pub fn route(logits: &Tensor, options: RouterOptions, balance: Option<&Arc<Balance>>) -> Result<Routed> {
    let (tokens, count) = matrix(ROUTE, "logits", "(N, E)", logits)?;
    refuse_device(ROUTE, "logits", logits)?;
    if options.per_token == 0 || options.per_token > count {
        let got = format!("{} of {count} experts", options.per_token);
        return Err(KernelError::Option { op: ROUTE, option: "per_token", expected: "from 1 to all experts", got });
    }
    let routed = experts::route(&Dense::new(ROUTE, "logits", logits)?.read(), count, options);
    let routing = Arc::new(routed.routing.clone());
    let balance = balance.cloned();
    if let Some(balance) = &balance {
        balance.count(&routing, &routed.probabilities);
    }
    let weights = routed.weights.clone();
    let weights = record(ROUTE, &[logits], weights, &[tokens, options.per_token], move |gradient, _, sink| {
        let d_probabilities = balance.as_ref().and_then(|balance| balance.gradient());
        sink.deliver(0, |buffer| {
            buffer.zero_unless_accumulating();
            route_backward(&mut buffer.values, &routed, options.normalise, gradient, d_probabilities.as_deref());
        })
    })?;
    Ok(Routed { weights, routing })
}

/// Σ weight · output over the experts of each token, (N, H), from `weights` (N, k). `parts` are the outputs of the experts
/// that have tokens, in the experts' order, one row for each of their tokens.
///
/// # Errors
///
/// [`KernelError::Shape`] unless there is one row for each slot and one weight; [`KernelError::Rank`],
/// [`KernelError::Type`], [`KernelError::Device`] for unfit tensors.
pub fn combine(parts: &[Tensor], weights: &Tensor, routing: &Arc<Routing>) -> Result<Tensor> {
    let slots = routing.routed_slots().len();
    same_shape(COMBINE, "weights", &[routing.token_count(), routing.per_token()], weights)?;
    let mut width = 0;
    let mut starts = Vec::with_capacity(parts.len());
    let mut rows = 0;
    for part in parts {
        refuse_device(COMBINE, "parts", part)?;
        let (count, own) = matrix(COMBINE, "parts", "(n, H)", part)?;
        width = if starts.is_empty() { own } else { width };
        same_shape(COMBINE, "parts", &[count, width], part)?;
        starts.push(rows);
        rows += count;
    }
    if rows != slots {
        let expected = format!("{slots} rows together");
        return Err(KernelError::Shape { op: COMBINE, argument: "parts", expected, got: vec![rows, width] });
    }
    // candle's graph takes three arguments at most.
    if parts.len() > 2 && !is_recording() && parts.iter().any(Tensor::track_op) {
        return combine(&[Tensor::cat(parts, 0)?], weights, routing);
    }
    let saved = parts.iter().map(|part| Dense::new(COMBINE, "parts", part)).collect::<Result<Vec<_>>>()?;
    let saved_weights = Dense::new(COMBINE, "weights", weights)?;
    let values = with_rows(&saved, width, |rows| experts::combine(rows, &saved_weights.read(), routing, width));
    let arguments: Vec<&Tensor> = std::iter::once(weights).chain(parts).collect();
    let routing = Arc::clone(routing);
    record(COMBINE, &arguments, values, &[routing.token_count(), width], move |dy, _, sink| {
        sink.deliver(0, |buffer| {
            buffer.zero_unless_accumulating();
            with_rows(&saved, width, |rows| combine_backward_weights(&mut buffer.values, rows, &routing, dy, width));
        })?;
        let weights = saved_weights.read();
        starts.iter().enumerate().try_for_each(|(index, start)| {
            sink.deliver(1 + index, |buffer| {
                buffer.zero_unless_accumulating();
                combine_backward_rows(&mut buffer.values, *start, &weights, &routing, dy, width);
            })
        })
    })
}

/// Calls `run` with all rows of the parts.
fn with_rows<T>(parts: &[Dense], width: usize, run: impl FnOnce(&[&[f32]]) -> T) -> T {
    let parts: Vec<_> = parts.iter().map(Dense::read).collect();
    let rows: Vec<&[f32]> = parts.iter().flat_map(|part| part.chunks_exact(width.max(1))).collect();
    run(&rows)
}

/// Refuses a tensor on a GPU or in the emulator.
pub(super) fn refuse_device(op: &'static str, argument: &'static str, tensor: &Tensor) -> Result<()> {
    match Engine::of(tensor) {
        None => Ok(()),
        Some(_) => {
            Err(KernelError::Device { op, argument, got: "the kernels of a GPU, which it does not have".to_owned() })
        }
    }
}
