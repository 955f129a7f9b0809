//! Softmax attention over packed [`Segments`].
//!
//! The forward pass works on blocks of queries by blocks of keys with a running maximum and sum
//! (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention-2, arXiv 2307.08691) and keeps one
//! log-sum-exp a row. The backward pass recomputes each block's weights from it. Memory beyond
//! inputs and outputs is some blocks a thread; nothing of size T × T exists.

mod backward;
mod blocks;
mod forward;

use crate::dense::Dense;
use crate::device::{self, engine};
use crate::error::{KernelError, Result};
use crate::graph::record_with_result;
use crate::outlet::Slopes;
use crate::segments::Segments;
use candle_core::Tensor;

const OP: &str = "attention";

/// How scores become weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// Multiplies q·k; usually 1/√D.
    pub scale: f64,
    /// Gemma 2's cap c: scaled scores s become c·tanh(s/c).
    pub soft_cap: Option<f64>,
    /// A query at position p sees keys at positions above p − window.
    pub window: Option<usize>,
}

impl AttentionOptions {
    /// Scale 1/√`width`, no cap, no window.
    pub fn for_width(width: usize) -> Self {
        Self { scale: (width as f64).powf(-0.5), soft_cap: None, window: None }
    }
}

/// Extents of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extents {
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) width: usize,
}

impl Extents {
    /// Query heads that share one key head.
    fn group(self) -> usize {
        self.heads / self.kv_heads
    }
}

/// `q` (N, Hq, D), `k` and `v` (N, Hkv, D) to (N, Hq, D); Hq is a multiple of Hkv, and query head h
/// reads key head h·Hkv/Hq.
///
/// # Errors
///
/// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`]
/// for unfit tensors, [`KernelError::Option`] for a scale that is not finite, a cap that is not
/// positive, or a window of 0; on a device also for a D that is no multiple of 8 or above 256.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, options: AttentionOptions) -> Result<Tensor> {
    let extents = check(q, k, v, segments, options)?;
    if let Some(engine) = engine(q) {
        return device::attention(&engine, [q, k, v], extents, segments, options);
    }
    let (queries, keys, values) = (Dense::new(OP, "q", q)?, Dense::new(OP, "k", k)?, Dense::new(OP, "v", v)?);
    let forward::Output { mixed, log_sums } =
        forward::forward(extents, &queries.read(), &keys.read(), &values.read(), segments, options);
    let segments = segments.clone();
    record_with_result(OP, &[q, k, v], mixed, q.dims(), move |gradient, result, out| {
        let (q, k, v) = (queries.read(), keys.read(), values.read());
        let lens = [q.len(), k.len(), v.len()];
        let mut slopes = [0, 1, 2].map(|index| Slopes::new(out.open(index), lens[index]));
        let mixed = Dense::new(OP, "result", result)?;
        let input = backward::Input { q: &q, k: &k, v: &v, mixed: &mixed.read(), gradient, log_sums: &log_sums };
        let targets = slopes.each_mut().map(|slopes| &mut slopes.fresh[..]);
        backward::backward(extents, input, &segments, options, targets);
        for (index, slopes) in slopes.into_iter().enumerate() {
            slopes.close(index, out)?;
        }
        Ok(())
    })
}

fn check(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, options: AttentionOptions) -> Result<Extents> {
    let &[tokens, heads, width] = q.dims() else {
        let got = q.dims().to_vec();
        return Err(KernelError::Rank { op: OP, argument: "q", expected: "(N, Hq, D)", got });
    };
    let &[key_tokens, kv_heads, key_width] = k.dims() else {
        let got = k.dims().to_vec();
        return Err(KernelError::Rank { op: OP, argument: "k", expected: "(N, Hkv, D)", got });
    };
    let shape = |argument, expected, tensor: &Tensor| {
        Err(KernelError::Shape { op: OP, argument, expected, got: tensor.dims().to_vec() })
    };
    if tokens != segments.tokens() {
        return shape("q", format!("[{}, Hq, D], as the segments", segments.tokens()), q);
    }
    let divides = kv_heads > 0 && heads.is_multiple_of(kv_heads);
    if key_tokens != tokens || key_width != width || !divides {
        return shape("k", format!("[{tokens}, a divisor of {heads}, {width}]"), k);
    }
    if v.dims() != k.dims() {
        return shape("v", format!("{:?}", k.dims()), v);
    }
    let option = |option, expected, got| Err(KernelError::Option { op: OP, option, expected, got });
    if !options.scale.is_finite() {
        return option("scale", "finite", options.scale.to_string());
    }
    if let Some(cap) = options.soft_cap
        && !(cap.is_finite() && cap > 0.0)
    {
        return option("soft_cap", "finite and above 0", cap.to_string());
    }
    if options.window == Some(0) {
        return option("window", "of at least 1", "0".to_owned());
    }
    Ok(Extents { tokens, heads, kv_heads, width })
}
