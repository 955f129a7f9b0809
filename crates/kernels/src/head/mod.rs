//! The language-model head and the log-probability of one token a row, fused.
//!
//! Logits exist for one tile (some rows by some of the vocabulary) a thread at a time, in both
//! passes; what is kept is a log-sum-exp a row. With w = ∂L/∂ℓ the backward pass recomputes a tile
//! and adds w·(onehot − softmax) through to hidden states and head weight (Cut Cross-Entropy,
//! arXiv 2411.09009; Liger Kernel, arXiv 2410.10989). Rows with w = 0 cost nothing. With a frozen weight the forward
//! pass leaves the direction of each row's gradient, and the backward pass only scales it.

mod backward;
mod forward;

use crate::dense::{Dense, matrix};
use crate::device::{self, engine};
use crate::embedding::check_ids;
use crate::error::{KernelError, Result};
use crate::graph::{Incoming, record};
use crate::outlet::Outlet;
use candle_core::Tensor;

const OP: &str = "selected_log_probs";

/// Vocabulary entries of one tile.
const TILE: usize = 512;

/// How the head is applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadOptions {
    /// Gemma 2's cap c: logits z become c·tanh(z/c).
    pub soft_cap: Option<f64>,
    /// Rows worked on together: bounds the scratch memory to about `chunk` × 512 floats a thread; on a device four times
    /// as many rows are. Chunk sizes change results by rounding alone.
    pub chunk: usize,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self { soft_cap: None, chunk: 512 }
    }
}

/// What [`selected_log_probs_with_terminators`] returns.
#[derive(Clone, Debug)]
pub struct SelectedLogProbs {
    /// Log-probabilities of the targets, (M), in nats; differentiable.
    pub log_probs: Tensor,
    /// One entry a row; no gradient.
    pub terminators: Vec<TerminatorStanding>,
}

/// How a row rates the end of the reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TerminatorStanding {
    /// Log of the probability that the next token is one of the terminators, in nats.
    pub log_prob: f32,
    /// Tokens other than terminators with a logit above the likeliest terminator's; 0 means that
    /// greedy decoding stops here.
    pub rank: u32,
}

/// `hidden` (M, H), `head_weight` (V, H), `M` targets, to the targets' log-probabilities (M) in
/// nats, float32. A head weight that requires no gradient gets none computed.
///
/// # Errors
///
/// [`KernelError::OutOfVocabulary`] for a target of V or more, [`KernelError::Rank`],
/// [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`] for unfit tensors,
/// [`KernelError::Option`] for a cap that is not positive or a chunk of 0.
pub fn selected_log_probs(
    hidden: &Tensor,
    head_weight: &Tensor,
    targets: &[u32],
    options: HeadOptions,
) -> Result<Tensor> {
    Ok(run(hidden, head_weight, targets, &[], options)?.log_probs)
}

/// As [`selected_log_probs`], and how likely each row makes any of `terminators`.
///
/// # Errors
///
/// As for [`selected_log_probs`]; also [`KernelError::OutOfVocabulary`] for a terminator and
/// [`KernelError::Option`] for none.
pub fn selected_log_probs_with_terminators(
    hidden: &Tensor,
    head_weight: &Tensor,
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
    run(hidden, head_weight, targets, terminators, options)
}

fn run(
    hidden: &Tensor,
    head_weight: &Tensor,
    targets: &[u32],
    terminators: &[u32],
    options: HeadOptions,
) -> Result<SelectedLogProbs> {
    let (rows, width) = matrix(OP, "hidden", "(M, H)", hidden)?;
    let (vocabulary, weight_width) = matrix(OP, "head_weight", "(V, H)", head_weight)?;
    if weight_width != width {
        return Err(KernelError::Shape {
            op: OP,
            argument: "head_weight",
            expected: format!("[V, {width}]"),
            got: head_weight.dims().to_vec(),
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
    if let Some(engine) = engine(hidden) {
        return device::selected_log_probs(&engine, hidden, head_weight, targets, terminators, options);
    }
    let (states, weight) = (Dense::new(OP, "hidden", hidden)?, Dense::new(OP, "head_weight", head_weight)?);
    let head = Head { width, vocabulary, soft_cap: options.soft_cap.map(|cap| cap as f32), chunk: options.chunk };
    // The way back through a frozen weight is all but known on the way forth.
    let frozen = hidden.track_op() && !head_weight.track_op();
    let output = forward::forward(head, &states.read(), &weight.read(), targets, terminators, frozen);
    let forward::Output { log_probs, log_sums, terminators, directions } = output;
    if let Some(directions) = directions {
        let log_probs = record(OP, &[hidden], log_probs, &[rows], move |gradient, _, out| {
            out.deliver(0, |buffer| backward::along(&directions, gradient, buffer))
        })?;
        return Ok(SelectedLogProbs { log_probs, terminators });
    }
    let targets: Vec<u32> = targets.into();
    let backward = move |gradient: &Incoming<'_>, _: &Tensor, out: &mut Outlet<'_>| {
        let (states, weight) = (states.read(), weight.read());
        let pass =
            backward::Pass { head, hidden: &states, weight: &weight, targets: &targets, log_sums: &log_sums, gradient };
        let (mut hidden, mut weight) = (out.open(0), out.open(1));
        pass.run(hidden.as_mut(), weight.as_mut());
        for (index, buffer) in [hidden, weight].into_iter().enumerate() {
            if let Some(buffer) = buffer {
                out.close(index, buffer)?;
            }
        }
        Ok(())
    };
    let log_probs = record(OP, &[hidden, head_weight], log_probs, &[rows], backward)?;
    Ok(SelectedLogProbs { log_probs, terminators })
}

/// Extents and options of one call.
#[derive(Clone, Copy)]
struct Head {
    width: usize,
    vocabulary: usize,
    soft_cap: Option<f32>,
    chunk: usize,
}

impl Head {
    fn tiles(&self) -> usize {
        self.vocabulary.div_ceil(TILE)
    }

    fn tile(&self, index: usize) -> std::ops::Range<usize> {
        index * TILE..((index + 1) * TILE).min(self.vocabulary)
    }
}
