//! The language-model head and the log-probability of one token a row, fused.

use super::weight;
use crate::autograd::{GradSink, ResultGrad, push_on, record, single, tracks};
use crate::checks::{check_ids, matrix};
use crate::cpu::Dense;
use crate::cpu::head::{Backward, Extras, Head, Inputs, Output, forward, scale_directions};
use crate::cpu::weight::{Table, Weight};
use crate::device::head_directions::scale_directions as scale_on_device;
use crate::device::{self, Engine, Role};
use crate::error::{KernelError, Result};
use crate::options::{HeadOptions, RowEntropy, TerminatorScore};
use candle_core::{DType, Tensor};

const OP: &str = "selected_log_probs";

/// Log-probabilities of the targets, terminator scores and entropies, one a row.
#[derive(Clone, Debug)]
pub struct SelectedLogProbs {
    /// Log-probabilities of the targets, (M), in nats, float32; differentiable.
    pub log_probs: Tensor,
    /// (M), or empty where none were asked for; no gradient.
    pub terminators: Vec<TerminatorScore>,
    /// (M), or empty where none were asked for; no gradient.
    pub entropies: Vec<f32>,
}

/// `hidden` (M, H), `head_weight` (V, H), `M` targets, to the targets' log-probabilities (M) in
/// nats, float32. A head weight that requires no gradient gets none computed.
///
/// # Errors
///
/// [`KernelError::OutOfVocabulary`] for a target of V or more, [`KernelError::Rank`],
/// [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`] for unfit tensors,
/// [`KernelError::Option`] for a cap that is not positive or a chunk of 0.
pub fn selected_log_probs<'w>(
    hidden: &Tensor,
    head_weight: impl Into<Weight<'w>>,
    targets: &[u32],
    options: HeadOptions,
) -> Result<Tensor> {
    Ok(run(hidden, head_weight.into(), targets, Extras::default(), options)?.log_probs)
}

/// As [`selected_log_probs`], with an entropy of each row, and the probability and rank of `terminators`, which may be
/// empty.
///
/// # Errors
///
/// As for [`selected_log_probs`]; also [`KernelError::OutOfVocabulary`] for a terminator.
pub fn selected_log_probs_with_entropy<'w>(
    hidden: &Tensor,
    head_weight: impl Into<Weight<'w>>,
    targets: &[u32],
    entropy: RowEntropy,
    terminators: &[u32],
    options: HeadOptions,
) -> Result<SelectedLogProbs> {
    run(hidden, head_weight.into(), targets, Extras { terminators, entropy: Some(entropy) }, options)
}

/// As [`selected_log_probs`], with the probability and rank of `terminators` in each row.
///
/// # Errors
///
/// As for [`selected_log_probs`]; also [`KernelError::OutOfVocabulary`] for a terminator and
/// [`KernelError::Option`] for none.
pub fn selected_log_probs_with_terminators<'w>(
    hidden: &Tensor,
    head_weight: impl Into<Weight<'w>>,
    targets: &[u32],
    terminators: &[u32],
    options: HeadOptions,
) -> Result<SelectedLogProbs> {
    if terminators.is_empty() {
        return Err(KernelError::Option {
            op: OP,
            option: "terminators",
            expected: "of at least one token",
            got: "none".to_owned(),
        });
    }
    run(hidden, head_weight.into(), targets, Extras { terminators, entropy: None }, options)
}

fn run(
    hidden: &Tensor,
    head_weight: Weight<'_>,
    targets: &[u32],
    extras: Extras<'_>,
    options: HeadOptions,
) -> Result<SelectedLogProbs> {
    check(hidden, head_weight, targets, extras.terminators, options)?;
    match Engine::of(hidden) {
        None => on_cpu(hidden, head_weight, targets, extras, options),
        Some(engine) => on_device(&engine, hidden, head_weight, targets, extras, options),
    }
}

fn check(
    hidden: &Tensor,
    head_weight: Weight<'_>,
    targets: &[u32],
    terminators: &[u32],
    options: HeadOptions,
) -> Result<()> {
    let (rows, width) = matrix(OP, "hidden", "(M, H)", hidden)?;
    let (vocabulary, weight_width) = weight::extents(OP, "head_weight", "(V, H)", head_weight)?;
    if weight_width != width {
        return Err(KernelError::Shape {
            op: OP,
            argument: "head_weight",
            expected: format!("[V, {width}]"),
            got: vec![vocabulary, weight_width],
        });
    }
    if targets.len() != rows {
        return Err(KernelError::Shape {
            op: OP,
            argument: "targets",
            expected: format!("[{rows}]"),
            got: vec![targets.len()],
        });
    }
    check_ids(OP, "target", targets, vocabulary)?;
    check_ids(OP, "terminator", terminators, vocabulary)?;
    let refuse = |option, expected, got| Err(KernelError::Option { op: OP, option, expected, got });
    if let Some(cap) = options.soft_cap
        && !(cap.is_finite() && cap > 0.0)
    {
        return refuse("soft_cap", "finite and above 0", cap.to_string());
    }
    if options.chunk == 0 {
        return refuse("chunk", "of at least 1", "0".to_owned());
    }
    Ok(())
}

fn on_cpu(
    hidden: &Tensor,
    head_weight: Weight<'_>,
    targets: &[u32],
    extras: Extras<'_>,
    options: HeadOptions,
) -> Result<SelectedLogProbs> {
    let (rows, width) = hidden.dims2()?;
    let (vocabulary, _) = weight::extents(OP, "head_weight", "(V, H)", head_weight)?;
    let (states, weight) = (Dense::new(OP, "hidden", hidden)?, Table::new(OP, "head_weight", head_weight)?);
    let head = Head { width, vocabulary, soft_cap: options.soft_cap.map(|cap| cap as f32), chunk: options.chunk };
    // With a frozen weight the forward pass leaves the backward pass all but a factor.
    let frozen = hidden.track_op() && head_weight.tracked().is_none();
    let output = {
        let (states, weight) = (states.read(), weight.read());
        forward(Inputs { head, hidden: &states, weight: weight.elements(), targets }, extras, frozen)
    };
    let Output { log_probs, log_sums, terminators, entropies, directions } = output;
    if let Some(directions) = directions {
        let log_probs = record(OP, &[hidden], log_probs, &[rows], move |gradient, _, sink| {
            sink.deliver(0, |d_hidden| scale_directions(&directions, gradient, d_hidden))
        })?;
        return Ok(SelectedLogProbs { log_probs, terminators, entropies });
    }
    let targets: Vec<u32> = targets.into();
    let trains_weight = head_weight.tracked().is_some();
    let backward = move |gradient: &ResultGrad<'_>, _: &Tensor, sink: &mut GradSink<'_>| {
        let (states, weight) = (states.read(), weight.read());
        let inputs = Inputs { head, hidden: &states, weight: weight.elements(), targets: &targets };
        let mut d_hidden = sink.open(0);
        let mut d_weight = if trains_weight { sink.open(1) } else { None };
        Backward { inputs, log_sums: &log_sums, gradient }.run(d_hidden.as_mut(), d_weight.as_mut());
        for (index, buffer) in [d_hidden, d_weight].into_iter().enumerate() {
            if let Some(buffer) = buffer {
                sink.close(index, buffer)?;
            }
        }
        Ok(())
    };
    let arguments: Vec<&Tensor> = [hidden].into_iter().chain(head_weight.tracked()).collect();
    let log_probs = record(OP, &arguments, log_probs, &[rows], backward)?;
    Ok(SelectedLogProbs { log_probs, terminators, entropies })
}

fn on_device(
    engine: &Engine,
    hidden: &Tensor,
    head_weight: Weight<'_>,
    targets: &[u32],
    extras: Extras<'_>,
    options: HeadOptions,
) -> Result<SelectedLogProbs> {
    let frozen = head_weight.tracked().is_none();
    let head_weight = &*weight::on_device(engine, head_weight, hidden.dtype())?;
    let tracked = tracks(OP, &[hidden, head_weight])?;
    let (rows, dtype) = (targets.len(), hidden.dtype());
    let head = device::head::Head::new(engine, hidden, head_weight, targets, options)?;
    let log_probs = engine.allocate(DType::F32, &[rows], Role::leaf_if(tracked))?;
    let log_sums = engine.allocate(DType::F32, &[rows], Role::Constant)?;
    if tracked && frozen {
        // The forward pass leaves the backward pass all but a factor a row.
        let directions = engine.allocate(dtype, hidden.dims(), Role::Constant)?;
        let (terminators, entropies) = head.forward(extras, &log_probs, &log_sums, Some(&directions))?;
        let own = engine.clone();
        push_on(engine, &[hidden], &[&log_probs], move |gradients, sink| {
            sink.give(0, scale_on_device(&own, &directions, single(gradients, OP)?)?)
        })?;
        return Ok(SelectedLogProbs { log_probs, terminators, entropies });
    }
    let (terminators, entropies) = head.forward(extras, &log_probs, &log_sums, None)?;
    push_on(engine, &[hidden, head_weight], &[&log_probs], move |gradients, sink| {
        let gradient = single(gradients, OP)?;
        let (d_hidden, d_weight) = (sink.open(0, dtype)?, sink.open(1, dtype)?);
        head.backward(gradient, &log_sums, d_hidden.as_ref(), d_weight.as_ref())?;
        for (index, grad) in [d_hidden, d_weight].into_iter().enumerate() {
            if let Some(grad) = grad {
                sink.close(index, grad.tensor)?;
            }
        }
        Ok(())
    })?;
    Ok(SelectedLogProbs { log_probs, terminators, entropies })
}
