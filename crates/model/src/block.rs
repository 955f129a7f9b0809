//! One block: attention, then the gated feed-forward layer, each on the normalised residual stream.

use candle_core::{D, DType, Tensor};
use smpo_kernels::decode::StackedHeads;
use smpo_kernels::{
    NormOptions, RotaryPairs, Segments, add, add_rms_norm, columns, embedding, linear, rms_norm, rotary, sigmoid_gate,
};

use crate::attention::{Attention, Heads};
use crate::delta_net::DeltaNet;
use crate::error::Result;
use crate::feed_forward::{FeedForwardLayer, FeedForwardPass};
use crate::layout::{DELTA_OUTPUT, SINKS};
use crate::linear::{Linear, Product};
use crate::lora::Dropout;
use crate::parameter::{Parameter, Parameters};
use crate::spec::{BlockNorms, DecoderSpec, LayerSpec, QkNorm};

/// The residual stream with the last layer's update not yet added, so that sum and norm are one fused operation.
pub(crate) struct Stream {
    residual: Tensor,
    update: Option<Tensor>,
    /// Input of a parallel feed-forward layer: what attention read.
    beside: Option<Tensor>,
}

impl Stream {
    pub fn new(embedded: Tensor) -> Self {
        Self { residual: embedded, update: None, beside: None }
    }

    /// The stream from what [`Stream::joined`] gave in the middle of a block.
    pub fn within_block(spec: &DecoderSpec, joined: Tensor) -> Result<Self> {
        if !spec.parallel {
            return Ok(Self::new(joined));
        }
        let width = spec.hidden_size;
        let beside = Some(columns(&joined, width..2 * width)?);
        Ok(Self { residual: columns(&joined, 0..width)?, update: None, beside })
    }

    /// Adds the pending update and normalises; returns the new stream and the next layer's input. Without a gain the input
    /// is the stream.
    pub fn normed(self, gain: Option<&Parameter>, spec: &DecoderSpec) -> Result<(Tensor, Tensor)> {
        let Some(gain) = gain else {
            let sum = self.sum()?;
            return Ok((sum.clone(), sum));
        };
        match self.update {
            Some(update) if !spec.norm_centred => {
                let both = add_rms_norm(&self.residual, &update, &gain.tensor, norm_options(spec))?;
                Ok((both.sum, both.normed))
            }
            _ => {
                let sum = self.sum()?;
                let normed = norm(&sum, gain, spec)?;
                Ok((sum, normed))
            }
        }
    }

    /// `N`.
    pub fn rows(&self) -> usize {
        self.residual.dims().first().copied().unwrap_or(0)
    }

    /// The stream with the pending update added, (`N`, `H`).
    pub fn sum(self) -> Result<Tensor> {
        match self.update {
            None => Ok(self.residual),
            Some(update) => Ok(add(&self.residual, &update)?),
        }
    }

    /// The stream as one tensor, (`N`, `H`), or (`N`, 2`H`) with the input of a parallel feed-forward layer.
    pub fn joined(mut self) -> Result<Tensor> {
        match self.beside.take() {
            None => self.sum(),
            Some(beside) => Ok(Tensor::cat(&[&self.sum()?, &beside], 1)?),
        }
    }
}

/// Cosine and sine of the rotary angles, one row per token: (`N`, `rotary_dim / 2`) each.
pub(crate) struct Angles {
    pub cos: Tensor,
    pub sin: Tensor,
    pub pairs: RotaryPairs,
}

/// Tensors that depend on the tokens' positions.
pub(crate) struct Positional {
    /// Angles of each of the spec's ropes.
    pub angles: Vec<Angles>,
    /// Factors on queries, (`N`, 1, 1); `None` where all are one.
    pub query_factors: Option<Tensor>,
}

/// Tensors of one layer that depend on the tokens' positions.
#[derive(Clone, Copy)]
pub(crate) struct Positions<'a> {
    /// Rotary angles; `None` does not rotate.
    pub angles: Option<&'a Angles>,
    pub query_factors: Option<&'a Tensor>,
}

/// Input of a block's first half.
pub(crate) struct AttentionInput<'a> {
    pub stream: Stream,
    pub positions: Positions<'a>,
    /// Rows of the output; nothing after attention is computed for the others. `None` is all.
    pub keep: Option<&'a [u32]>,
    pub dropout: Option<Dropout>,
    /// Sequences of the rows, for a gated delta net.
    pub segments: &'a Segments,
}

#[derive(Debug, Clone)]
pub(crate) struct Block {
    mixer: Mixer,
    qk_norm: Option<[Parameter; 2]>,
    output: Linear,
    /// A logit for each head.
    sinks: Option<Parameter>,
    feed_forward: FeedForwardLayer,
    norms: BlockNorms<Parameter>,
}

/// Projections of the input, with what else a gated delta net has before its output's.
#[derive(Debug, Clone)]
enum Mixer {
    Separate(Box<[Linear; 3]>),
    Fused(Linear),
    Delta(Box<DeltaNet>),
}

impl Block {
    pub fn take(parameters: &mut Parameters, spec: &DecoderSpec, layer: &LayerSpec, prefix: &str) -> Result<Self> {
        let name = |tail: &str| format!("{prefix}.{tail}");
        let mut linear = |tail: &str| Linear::take(parameters, &name(tail));
        let delta = spec.delta_of(layer);
        let output = linear(if delta.is_some() { DELTA_OUTPUT } else { "self_attn.o_proj" })?;
        let mixer = match delta {
            Some(delta) => Mixer::Delta(Box::new(DeltaNet::take(parameters, delta, prefix)?)),
            None if spec.projections.fused_heads => Mixer::Fused(linear("self_attn.qkv_proj")?),
            None => Mixer::Separate(Box::new([
                linear("self_attn.q_proj")?,
                linear("self_attn.k_proj")?,
                linear("self_attn.v_proj")?,
            ])),
        };
        let feed_forward = FeedForwardLayer::take(parameters, spec, layer.routed, prefix)?;
        let mut norm = |tail: &str| parameters.take(&name(&format!("{tail}.weight")));
        let qk_norm = match spec.qk_norm {
            _ if delta.is_some() => None,
            QkNorm::None => None,
            QkNorm::PerHead | QkNorm::AllHeads => Some([norm("self_attn.q_norm")?, norm("self_attn.k_norm")?]),
        };
        let norms = spec.norms.try_map(|tail| norm(tail))?;
        let sinks = if spec.sinks && delta.is_none() { Some(parameters.take(&name(SINKS))?) } else { None };
        Ok(Self { mixer, qk_norm, output, sinks, feed_forward, norms })
    }

    /// The first half, on `N` rows.
    pub fn attention_half(
        &self,
        (spec, layer): (&DecoderSpec, &LayerSpec),
        input: AttentionInput<'_>,
        attention: &mut impl Attention,
    ) -> Result<Stream> {
        let keep = input.keep;
        let dropout = input.dropout;
        let (mut residual, mut normed) = input.stream.normed(self.norms.before_attention.as_ref(), spec)?;
        let mut attended = match &self.mixer {
            Mixer::Delta(net) => net.forward(&normed, spec.norm_eps, dropout, input.segments)?,
            Mixer::Separate(_) | Mixer::Fused(_) => {
                self.attend((spec, layer), &normed, (input.positions, dropout), attention)?
            }
        };
        if let Some(rows) = keep {
            attended = embedding(&attended, rows)?;
            residual = embedding(&residual, rows)?;
            if spec.parallel {
                normed = embedding(&normed, rows)?;
            }
        }
        let update = self.output.forward(&attended, dropout, Product::Computed)?;
        let update = finished(update, self.norms.after_attention.as_ref(), spec)?;
        Ok(Stream { residual, update: Some(update), beside: spec.parallel.then_some(normed) })
    }

    /// The second half. Rows are independent: any part of them can be computed alone.
    ///
    /// With [`Product::ForBackward`] as the last product the output's values are unspecified: it serves the backward pass, which does not need
    /// the last product.
    pub fn feed_forward_half(&self, spec: &DecoderSpec, stream: Stream, pass: FeedForwardPass<'_>) -> Result<Stream> {
        let mut stream = stream;
        let (residual, normed) = match stream.beside.take() {
            Some(beside) => (stream.sum()?, beside),
            None => stream.normed(self.norms.before_feed_forward.as_ref(), spec)?,
        };
        // The norm after it needs the product.
        let last = if self.norms.after_feed_forward.is_some() { Product::Computed } else { pass.last };
        let update = self.feed_forward.forward(spec, &normed, FeedForwardPass { last, ..pass })?;
        let update = finished(update, self.norms.after_feed_forward.as_ref(), spec)?;
        Ok(Stream { residual, update: Some(update), beside: None })
    }

    /// Outputs of attention, (`N`, all queries' width).
    fn attend(
        &self,
        (spec, layer): (&DecoderSpec, &LayerSpec),
        x: &Tensor,
        (positions, dropout): (Positions<'_>, Option<Dropout>),
        attention: &mut impl Attention,
    ) -> Result<Tensor> {
        if let Some(projection) = self.plain_projection(spec, positions)
            && let Some(attention) = attention.of_stacked()
        {
            let product = linear(x, projection.weight.weight(), None)?;
            let stacked = StackedHeads {
                product: &product,
                bias: projection.bias.as_ref().map(|bias| &bias.tensor),
                norms: self.qk_norm.as_ref().map(|both| (both.each_ref().map(|norm| &norm.tensor), norm_options(spec))),
                angles: positions.angles.map(|angles| ([&angles.cos, &angles.sin], angles.pairs)),
            };
            return Ok(attention.attend_stacked(layer, &stacked)?.reshape(((), spec.query_width()))?);
        }
        let (mut heads, gates) = self.heads(spec, x, positions.angles, dropout)?;
        if let Some(factors) = positions.query_factors {
            heads.queries = heads.queries.broadcast_mul(factors)?;
        }
        let attended = attention.attend(layer, heads)?.reshape(((), spec.query_width()))?;
        match gates {
            Some(gates) => Ok(sigmoid_gate(&gates, &attended)?),
            None => Ok(attended),
        }
    }

    /// The projection to queries, keys and values, if it is one and only bias, norms of single heads and rotation follow.
    fn plain_projection(&self, spec: &DecoderSpec, positions: Positions<'_>) -> Option<&Linear> {
        let norms = self.qk_norm.is_none() || (spec.qk_norm == QkNorm::PerHead && !spec.norm_centred);
        let plain = norms && !spec.gated_attention && self.sinks.is_none() && positions.query_factors.is_none();
        match &self.mixer {
            Mixer::Fused(projection) if plain && projection.adapter.is_none() => Some(projection),
            _ => None,
        }
    }

    /// Heads, and gates of their outputs, (`N`, all queries' width), where the spec has them.
    fn heads(
        &self,
        spec: &DecoderSpec,
        x: &Tensor,
        angles: Option<&Angles>,
        dropout: Option<Dropout>,
    ) -> Result<(Heads, Option<Tensor>)> {
        let projected = Linear::forward_all(&self.heads_linears(), x, dropout)?;
        let (q, kv) = (spec.query_rows(), spec.kv_width());
        let (mut queries, mut keys, values) = match &projected[..] {
            [queries, keys, values] => (queries.clone(), keys.clone(), values.clone()),
            // One layer for all three.
            fused => {
                let all = Tensor::cat(fused, 1)?;
                (columns(&all, 0..q)?, columns(&all, q..q + kv)?, columns(&all, q + kv..q + 2 * kv)?)
            }
        };
        let mut gates = None;
        if spec.gated_attention {
            // Each head's query, then its gate.
            let width = spec.head_dim;
            let pairs = queries.reshape(((), 2 * width))?;
            gates = Some(columns(&pairs, width..2 * width)?.reshape(((), spec.query_width()))?);
            queries = columns(&pairs, 0..width)?.reshape(((), spec.query_width()))?;
        }
        let split = |x: Tensor, heads: usize| x.reshape(((), heads, spec.head_dim));
        if spec.qk_norm == QkNorm::PerHead {
            (queries, keys) = (split(queries, spec.heads)?, split(keys, spec.kv_heads)?);
        }
        if let Some([q_norm, k_norm]) = &self.qk_norm {
            queries = norm(&queries, q_norm, spec)?;
            keys = norm(&keys, k_norm, spec)?;
        }
        let turned = |x: Tensor| match angles {
            Some(angles) => rotary(&x, &angles.cos, &angles.sin, angles.pairs),
            None => Ok(x),
        };
        let heads = Heads {
            queries: turned(split(queries, spec.heads)?)?,
            keys: turned(split(keys, spec.kv_heads)?)?,
            values: split(values, spec.kv_heads)?,
            sinks: self.sinks.as_ref().map(|sinks| sinks.tensor.clone()),
        };
        Ok((heads, gates))
    }

    /// Stacks the projections of one input, see [`Linear::stacked`].
    pub fn stack_projections(&mut self) -> Result<()> {
        if let Mixer::Separate(three) = &self.mixer
            && let Some(one) = Linear::stacked(three.as_slice())?
        {
            self.mixer = Mixer::Fused(one);
        }
        self.feed_forward.stack_projections()
    }

    /// True if no parameter of the block is trained.
    pub fn is_frozen(&self) -> bool {
        let trained = |parameter: &Parameter| parameter.tensor.is_variable();
        !self.vectors().any(trained) && !self.linears().into_iter().flat_map(Linear::parameters).any(trained)
    }

    /// The linear layers, in the layout's order.
    pub fn linears(&self) -> Vec<&Linear> {
        let mut all = self.heads_linears();
        all.push(&self.output);
        all.extend(self.feed_forward.linears());
        all
    }

    /// The projections of the block's input: to queries, keys and values, or those of a gated delta net.
    pub fn heads_linears(&self) -> Vec<&Linear> {
        match &self.mixer {
            Mixer::Separate(three) => three.iter().collect(),
            Mixer::Fused(one) => vec![one],
            Mixer::Delta(net) => net.inputs().iter().collect(),
        }
    }

    /// The projection of attention's output.
    pub fn output(&self) -> &Linear {
        &self.output
    }

    /// The feed-forward layer.
    pub fn feed_forward(&self) -> &FeedForwardLayer {
        &self.feed_forward
    }

    pub fn feed_forward_mut(&mut self) -> &mut FeedForwardLayer {
        &mut self.feed_forward
    }

    /// The norms around attention and the feed-forward layer.
    pub fn block_norms(&self) -> &BlockNorms<Parameter> {
        &self.norms
    }

    /// The norms of queries and keys.
    pub fn norms_of_heads(&self) -> impl Iterator<Item = &Parameter> {
        self.qk_norm.iter().flatten()
    }

    /// Attention sinks.
    pub fn sinks(&self) -> Option<&Parameter> {
        self.sinks.as_ref()
    }

    /// The gated delta net.
    pub fn delta(&self) -> Option<&DeltaNet> {
        match &self.mixer {
            Mixer::Delta(net) => Some(net),
            Mixer::Separate(_) | Mixer::Fused(_) => None,
        }
    }

    /// Sinks, norms and what else is no linear layer, in the layout's order.
    pub fn vectors(&self) -> impl Iterator<Item = &Parameter> {
        let mixer = self.delta().into_iter().flat_map(DeltaNet::vectors).chain(&self.sinks);
        mixer.chain(self.norms_of_heads()).chain(self.norms.iter())
    }

    pub fn vectors_mut(&mut self) -> Vec<&mut Parameter> {
        let delta = match &mut self.mixer {
            Mixer::Delta(net) => Some(net.vectors_mut()),
            Mixer::Separate(_) | Mixer::Fused(_) => None,
        };
        let mixer = delta.into_iter().flatten().chain(&mut self.sinks);
        mixer.chain(self.qk_norm.iter_mut().flatten()).chain(self.norms.iter_mut()).collect()
    }

    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut all = Vec::new();
        match &mut self.mixer {
            Mixer::Separate(three) => all.extend(three.iter_mut()),
            Mixer::Fused(one) => all.push(one),
            Mixer::Delta(net) => all.extend(net.inputs_mut()),
        }
        all.push(&mut self.output);
        all.extend(self.feed_forward.linears_mut());
        all
    }
}

/// A layer's update of the stream: its output, normalised and scaled where the spec says so.
fn finished(update: Tensor, gain: Option<&Parameter>, spec: &DecoderSpec) -> Result<Tensor> {
    let update = match gain {
        Some(gain) => norm(&update, gain, spec)?,
        None => update,
    };
    match spec.residual_scale {
        Some(scale) => Ok((update * scale)?),
        None => Ok(update),
    }
}

/// The spec's norm of each row.
fn norm(x: &Tensor, gain: &Parameter, spec: &DecoderSpec) -> Result<Tensor> {
    let options = norm_options(spec);
    if spec.norm_centred {
        return Ok(rms_norm(&centred(x)?, &gain.tensor, options)?);
    }
    Ok(rms_norm(x, &gain.tensor, options)?)
}

/// Each row without its mean, which is taken in float32.
fn centred(x: &Tensor) -> candle_core::Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?.to_dtype(x.dtype())
}

pub(crate) fn norm_options(spec: &DecoderSpec) -> NormOptions {
    NormOptions { eps: spec.norm_eps, unit_offset: spec.norm_plus_one }
}
