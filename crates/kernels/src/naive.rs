//! Naive twins of the operations in plain candle: differentiable, the reference of tests and benches.
//!
//! Arguments are checked by candle alone.

use crate::ops::{AddRmsNorm, LowRank};
use crate::options::{
    AttentionOptions, Clamp, DeltaHeads, DropoutMask, Gate, NormOptions, RotaryPairs, Routing, Segments, Span,
};
use candle_core::{D, Device, Result, Tensor};
use std::ops::Range;

/// See [`crate::embedding`].
///
/// # Errors
///
/// candle's, here and in all functions of this module.
pub fn embedding(weight: &Tensor, ids: &[u32]) -> Result<Tensor> {
    weight.index_select(&Tensor::new(ids, weight.device())?, 0)
}

/// See [`crate::add`].
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a + b
}

/// See [`crate::columns`].
pub fn columns(x: &Tensor, range: Range<usize>) -> Result<Tensor> {
    x.narrow(1, range.start, range.len())
}

/// See [`crate::dropout`].
pub fn dropout(x: &Tensor, mask: DropoutMask) -> Result<Tensor> {
    x * Tensor::from_vec(mask.factors(x.elem_count()), x.shape(), x.device())?.to_dtype(x.dtype())?
}

/// See [`crate::weighted_sum`]; added in the dtype of `x`.
pub fn weighted_sum(x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    (x * weights)?.sum_all()
}

/// See [`crate::adapted_linear`].
pub fn adapted_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, update: LowRank<'_>) -> Result<Tensor> {
    add_linear(&linear(x, weight, bias)?, update.low, update.b, update.scale)
}

/// See [`crate::adapted_linears`]: layers of weight, A and B, without biases.
pub fn adapted_linears(x: &Tensor, layers: &[[&Tensor; 3]], scale: f64) -> Result<Vec<Tensor>> {
    layers.iter().map(|[weight, a, b]| add_linear(&linear(x, weight, None)?, &linear(x, a, None)?, b, scale)).collect()
}

/// See [`crate::add_linear`].
pub fn add_linear(base: &Tensor, x: &Tensor, weight: &Tensor, scale: f64) -> Result<Tensor> {
    base + (linear(x, weight, None)? * scale)?
}

/// See [`crate::linear`].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.broadcast_matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// See [`crate::rms_norm`].
pub fn rms_norm(x: &Tensor, weight: &Tensor, options: impl Into<NormOptions>) -> Result<Tensor> {
    let options = options.into();
    let weight = if options.unit_offset { (weight + 1.0)? } else { weight.clone() };
    let square = x.sqr()?.mean_keepdim(D::Minus1)?;
    let root = (square + options.eps)?.sqrt()?;
    x.broadcast_div(&root)?.broadcast_mul(&weight)
}

/// See [`crate::add_rms_norm`]; the sum, then its norm.
pub fn add_rms_norm(
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    options: impl Into<NormOptions>,
) -> Result<AddRmsNorm> {
    let sum = (x + residual)?;
    let normed = rms_norm(&sum, weight, options)?;
    Ok(AddRmsNorm { sum, normed })
}

/// See [`crate::rotary`].
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor, pairs: RotaryPairs) -> Result<Tensor> {
    let (tokens, heads, width) = x.dims3()?;
    let half = cos.dim(1)?;
    let (low, high) = match pairs {
        RotaryPairs::Halves => (x.narrow(2, 0, half)?, x.narrow(2, half, half)?),
        RotaryPairs::Neighbours => {
            let pairs = x.narrow(2, 0, 2 * half)?.reshape((tokens, heads, half, 2))?;
            (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?)
        }
    };
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
    let turned_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let turned_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    let tail = x.narrow(2, 2 * half, width - 2 * half)?;
    match pairs {
        RotaryPairs::Halves => Tensor::cat(&[turned_low, turned_high, tail], 2),
        RotaryPairs::Neighbours => {
            let turned = Tensor::stack(&[turned_low, turned_high], 3)?.reshape((tokens, heads, 2 * half))?;
            Tensor::cat(&[turned, tail], 2)
        }
    }
}

/// See [`crate::swiglu`].
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    (gate / (gate.neg()?.exp()? + 1.0)?)? * up
}

/// See [`crate::geglu`].
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let cubic = (gate * gate.sqr()?.affine(0.044715, 1.0)?)?;
    let tanh = (cubic * (2.0 / std::f64::consts::PI).sqrt())?.tanh()?;
    (gate * tanh.affine(0.5, 0.5)?)? * up
}

/// See [`crate::clamped_swiglu`].
pub fn clamped_swiglu(gate: &Tensor, up: &Tensor, clamp: Clamp) -> Result<Tensor> {
    let gate = at_most(gate, clamp.limit)?;
    let up = at_most(&at_most(up, clamp.limit)?.neg()?, clamp.limit)?.neg()?;
    let sigmoid = (gate.affine(-f64::from(clamp.alpha), 0.0)?.exp()? + 1.0)?.recip()?;
    ((gate * sigmoid)? * (up + 1.0)?)?.contiguous()
}

/// The elements up to a limit. At the limit the gradient passes, as in PyTorch; candle's `minimum` halves it there.
fn at_most(x: &Tensor, limit: f32) -> Result<Tensor> {
    x.le(limit)?.where_cond(x, &x.ones_like()?.affine(f64::from(limit), 0.0)?)
}

/// See [`crate::gated_halves`].
pub fn gated_halves(gate_up: &Tensor, kind: Gate) -> Result<Tensor> {
    let halves = gate_up.chunk(2, 1)?;
    match kind {
        Gate::Silu => swiglu(&halves[0], &halves[1]),
        Gate::GeluTanh => geglu(&halves[0], &halves[1]),
        Gate::Clamped(clamp) => clamped_swiglu(&halves[0], &halves[1], clamp),
    }
}

/// See [`crate::sigmoid_gate`].
pub fn sigmoid_gate(gate: &Tensor, x: &Tensor) -> Result<Tensor> {
    (gate.neg()?.exp()? + 1.0)?.recip()? * x
}

/// See [`crate::short_convolution`]; sequence by sequence.
pub fn short_convolution(x: &Tensor, weight: &Tensor, segments: &Segments) -> Result<Tensor> {
    let (channels, taps) = (weight.dim(0)?, weight.dim(2)?);
    let weight = weight.reshape((channels, taps))?;
    by_sequence(segments, |tokens| {
        let zeros = Tensor::zeros((taps - 1, channels), x.dtype(), x.device())?;
        let padded = Tensor::cat(&[&zeros, &x.index_select(tokens, 0)?], 0)?;
        let length = tokens.dim(0)?;
        let mut sum = Tensor::zeros((length, channels), x.dtype(), x.device())?;
        for tap in 0..taps {
            let weight = weight.narrow(1, tap, 1)?.t()?;
            sum = (sum + padded.narrow(0, tap, length)?.broadcast_mul(&weight)?)?;
        }
        &sum / (sum.neg()?.exp()? + 1.0)?
    })
}

/// See [`crate::log_decay`].
pub fn log_decay(x: &Tensor, rate: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let softplus = (x.broadcast_add(bias)?.exp()? + 1.0)?.log()?;
    softplus.broadcast_mul(&rate.exp()?.neg()?)
}

/// See [`crate::gated_delta_rule`]; sequence by sequence and token by token.
pub fn gated_delta_rule(
    qkv: &Tensor,
    decay: &Tensor,
    strength: &Tensor,
    heads: DeltaHeads,
    segments: &Segments,
) -> Result<Tensor> {
    let DeltaHeads { key_heads, value_heads, key_dim, value_dim } = heads;
    let (tokens, keys) = (segments.tokens(), heads.key_width());
    let of_value_heads = |start: usize, scale: f64| -> Result<Tensor> {
        let x = qkv.narrow(1, start, keys)?.reshape((tokens, key_heads, 1, key_dim))?;
        let unit = x.broadcast_div(&(x.sqr()?.sum_keepdim(D::Minus1)? + 1e-6)?.sqrt()?)?;
        let repeated = unit.broadcast_as((tokens, key_heads, value_heads / key_heads, key_dim))?;
        repeated.reshape((tokens, value_heads, key_dim, 1))? * scale
    };
    let (queries, keys) = (of_value_heads(0, (key_dim as f64).powf(-0.5))?, of_value_heads(keys, 1.0)?);
    let values = qkv.narrow(1, 2 * heads.key_width(), heads.value_width())?;
    let values = values.reshape((tokens, value_heads, 1, value_dim))?;
    let decay = decay.exp()?.reshape((tokens, value_heads, 1, 1))?;
    let strength = strength.reshape((tokens, value_heads, 1, 1))?;
    by_sequence(segments, |tokens| {
        let mut state = Tensor::zeros((value_heads, key_dim, value_dim), qkv.dtype(), qkv.device())?;
        let mut outputs = Vec::new();
        for token in tokens.to_vec1::<u32>()? {
            let at = |x: &Tensor| x.narrow(0, token as usize, 1)?.squeeze(0);
            let (q, k) = (at(&queries)?, at(&keys)?);
            state = state.broadcast_mul(&at(&decay)?)?;
            let read = state.broadcast_mul(&k)?.sum_keepdim(1)?;
            let change = (at(&values)? - read)?.broadcast_mul(&at(&strength)?)?;
            state = (state + k.broadcast_mul(&change)?)?;
            outputs.push(state.broadcast_mul(&q)?.sum(1)?);
        }
        Tensor::stack(&outputs, 0)
    })
}

/// Rows of the packed tokens from a function of each sequence's tokens, a prefix's before a span's own.
fn by_sequence(segments: &Segments, sequence: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let of_span = |span: &Span| {
        let tokens: Vec<u32> =
            span.prefix.clone().unwrap_or(0..0).chain(span.start..span.end).map(|t| t as u32).collect();
        let own = span.end - span.start;
        sequence(&Tensor::new(&tokens[..], &Device::Cpu)?)?.narrow(0, tokens.len() - own, own)
    };
    Tensor::cat(&segments.spans().iter().map(of_span).collect::<Result<Vec<_>>>()?, 0)
}

/// The weights of [`crate::route`], given its choice.
pub fn route(logits: &Tensor, routing: &Routing, experts: usize, normalise: bool) -> Result<Tensor> {
    let exp = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let probabilities = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;
    let mut chosen = vec![0u32; routing.token_count() * routing.per_token()];
    for expert in 0..experts {
        routing.slots_of(expert).iter().for_each(|slot| chosen[*slot as usize] = expert as u32);
    }
    let chosen = Tensor::from_vec(chosen, (routing.token_count(), routing.per_token()), logits.device())?;
    let weights = probabilities.gather(&chosen, 1)?;
    if normalise { weights.broadcast_div(&weights.sum_keepdim(1)?) } else { Ok(weights) }
}

/// See [`crate::combine`].
pub fn combine(parts: &[Tensor], weights: &Tensor, routing: &Routing) -> Result<Tensor> {
    let rows = Tensor::cat(parts, 0)?;
    let mut places = vec![0u32; routing.routed_slots().len()];
    for (place, slot) in routing.routed_slots().iter().enumerate() {
        places[*slot as usize] = place as u32;
    }
    let places = Tensor::from_vec(places, routing.routed_slots().len(), rows.device())?;
    let width = rows.dim(1)?;
    let by_slot = rows.index_select(&places, 0)?.reshape((routing.token_count(), routing.per_token(), width))?;
    by_slot.broadcast_mul(&weights.unsqueeze(2)?)?.sum(1)
}

/// See [`crate::attention`]; keeps N × N scores for every head.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, options: AttentionOptions) -> Result<Tensor> {
    attend(q, k, v, None, segments, options)
}

/// See [`crate::attention_with_sinks`]; a sink is one more key of every query, without a value.
pub fn attention_with_sinks(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sinks: &Tensor,
    segments: &Segments,
    options: AttentionOptions,
) -> Result<Tensor> {
    attend(q, k, v, Some(sinks), segments, options)
}

fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sinks: Option<&Tensor>,
    segments: &Segments,
    options: AttentionOptions,
) -> Result<Tensor> {
    let (tokens, heads, width) = q.dims3()?;
    let groups = heads / k.dim(1)?;
    let repeat = |x: &Tensor| -> Result<Tensor> {
        let kv_heads = x.dim(1)?;
        x.unsqueeze(2)?
            .broadcast_as((tokens, kv_heads, groups, width))?
            .reshape((tokens, heads, width))?
            .transpose(0, 1)?
            .contiguous()
    };
    let q = q.transpose(0, 1)?.contiguous()?;
    let (k, v) = (repeat(k)?, repeat(v)?);
    let mut scores = (q.matmul(&k.t()?)? * options.scale)?;
    if let Some(cap) = options.soft_cap {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    let mut scores = scores.broadcast_add(&mask(segments, options.window)?)?;
    if let Some(sinks) = sinks {
        let column = sinks.reshape((heads, 1, 1))?.broadcast_as((heads, tokens, 1))?.contiguous()?;
        scores = Tensor::cat(&[scores, column], 2)?;
    }
    let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?;
    let weights = scores.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?.narrow(2, 0, tokens)?.contiguous()?;
    weights.matmul(&v)?.transpose(0, 1)?.contiguous()
}

/// 0 where a query may attend to a key, −∞ elsewhere, (N, N).
fn mask(segments: &Segments, window: Option<usize>) -> Result<Tensor> {
    let tokens = segments.tokens();
    let positions = segments.positions();
    let mut mask = vec![f32::NEG_INFINITY; tokens * tokens];
    for span in segments.spans() {
        for query in span.start..span.end {
            for key in span.prefix.clone().unwrap_or(0..0).chain(span.start..query + 1) {
                let distance = i64::from(positions[query]) - i64::from(positions[key]);
                if window.is_none_or(|window| distance < window as i64) {
                    mask[query * tokens + key] = 0.0;
                }
            }
        }
    }
    Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu)
}

/// Every logit of the head, (M, V), soft-capped.
pub fn logits(hidden: &Tensor, head_weight: &Tensor, soft_cap: Option<f64>) -> Result<Tensor> {
    let logits = hidden.matmul(&head_weight.t()?)?;
    match soft_cap {
        Some(cap) => (logits / cap)?.tanh()? * cap,
        None => Ok(logits),
    }
}

/// See [`crate::selected_log_probs`]; keeps M × V logits.
pub fn selected_log_probs(
    hidden: &Tensor,
    head_weight: &Tensor,
    targets: &[u32],
    soft_cap: Option<f64>,
) -> Result<Tensor> {
    let logits = logits(hidden, head_weight, soft_cap)?;
    let logits = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let total = logits.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let targets = Tensor::new(targets, hidden.device())?.unsqueeze(1)?;
    (logits.gather(&targets, 1)? - total)?.squeeze(1)
}
