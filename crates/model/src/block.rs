//! One block: attention, then the gated feed-forward layer, each on the normalised residual stream.

use candle_core::Tensor;
use smpo_kernels::{NormOptions, add, add_rms_norm, columns, embedding, geglu, rms_norm, rotary, swiglu};

use crate::error::Result;
use crate::linear::{Linear, Product};
use crate::lora::Dropout;
use crate::parameter::{Parameter, Parameters};
use crate::spec::{Activation, DecoderSpec, NormPlacement, Projections};

/// The residual stream with the last layer's update not yet added, so that sum and norm are one fused operation.
pub(crate) struct Stream {
    residual: Tensor,
    update: Option<Tensor>,
}

impl Stream {
    pub fn new(embedded: Tensor) -> Self {
        Self { residual: embedded, update: None }
    }

    /// Adds the pending update and normalises; returns the new stream and the next layer's input.
    pub fn normed(self, gain: &Parameter, options: NormOptions) -> Result<(Tensor, Tensor)> {
        match self.update {
            None => {
                let normed = rms_norm(&self.residual, &gain.tensor, options)?;
                Ok((self.residual, normed))
            }
            Some(update) => {
                let both = add_rms_norm(&self.residual, &update, &gain.tensor, options)?;
                Ok((both.sum, both.normed))
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
}

/// Cosine and sine of the rotary angles, one row per token: (`N`, `rotary_dim / 2`) each.
pub(crate) struct Angles {
    pub cos: Tensor,
    pub sin: Tensor,
}

/// Rotated queries and keys, and values: (`N`, heads, `head_dim`) each.
pub(crate) struct Heads {
    pub queries: Tensor,
    pub keys: Tensor,
    pub values: Tensor,
}

/// Input of a block's first half.
pub(crate) struct AttentionInput<'a> {
    pub stream: Stream,
    pub angles: &'a Angles,
    /// Rows of the output; nothing after attention is computed for the others. `None` is all.
    pub keep: Option<&'a [u32]>,
    pub dropout: Option<Dropout>,
}

#[derive(Debug, Clone)]
pub(crate) struct Block {
    input_norm: Parameter,
    projection: AttentionProjection,
    qk_norm: Option<[Parameter; 2]>,
    output: Linear,
    post_attention_norm: Option<Parameter>,
    feed_forward_norm: Parameter,
    gate_up: GateUp,
    down: Linear,
    post_feed_forward_norm: Option<Parameter>,
}

#[derive(Debug, Clone)]
enum AttentionProjection {
    Separate(Box<[Linear; 3]>),
    Fused(Linear),
}

#[derive(Debug, Clone)]
enum GateUp {
    Separate(Box<[Linear; 2]>),
    Fused(Linear),
}

impl Block {
    pub fn take(parameters: &mut Parameters, spec: &DecoderSpec, prefix: &str) -> Result<Self> {
        let name = |tail: &str| format!("{prefix}.{tail}");
        let mut linear = |tail: &str| Linear::take(parameters, &name(tail));
        let (projection, gate_up) = match spec.projections {
            Projections::Separate => (
                AttentionProjection::Separate(Box::new([
                    linear("self_attn.q_proj")?,
                    linear("self_attn.k_proj")?,
                    linear("self_attn.v_proj")?,
                ])),
                GateUp::Separate(Box::new([linear("mlp.gate_proj")?, linear("mlp.up_proj")?])),
            ),
            Projections::Fused => {
                (AttentionProjection::Fused(linear("self_attn.qkv_proj")?), GateUp::Fused(linear("mlp.gate_up_proj")?))
            }
        };
        let (output, down) = (linear("self_attn.o_proj")?, linear("mlp.down_proj")?);
        let mut norm = |tail: &str| parameters.take(&name(&format!("{tail}.weight")));
        let qk_norm = match spec.qk_norm {
            true => Some([norm("self_attn.q_norm")?, norm("self_attn.k_norm")?]),
            false => None,
        };
        let input_norm = norm("input_layernorm")?;
        // The same name means the norm before the feed-forward layer in one placement, and the one after attention in
        // the other.
        let after_attention = norm("post_attention_layernorm")?;
        let (post_attention_norm, feed_forward_norm, post_feed_forward_norm) = match spec.norms {
            NormPlacement::Pre => (None, after_attention, None),
            NormPlacement::PreAndPost => {
                (Some(after_attention), norm("pre_feedforward_layernorm")?, Some(norm("post_feedforward_layernorm")?))
            }
        };
        Ok(Self {
            input_norm,
            projection,
            qk_norm,
            output,
            post_attention_norm,
            feed_forward_norm,
            gate_up,
            down,
            post_feed_forward_norm,
        })
    }

    /// The first half, on `N` rows. `attend` computes attention outputs (`N`, heads, `head_dim`) from heads.
    pub fn attention_half(
        &self,
        spec: &DecoderSpec,
        input: AttentionInput<'_>,
        attend: impl FnOnce(Heads) -> Result<Tensor>,
    ) -> Result<Stream> {
        let AttentionInput { stream, angles, keep, dropout } = input;
        let options = norm_options(spec);
        let (mut residual, normed) = stream.normed(&self.input_norm, options)?;
        let attended = attend(self.heads(spec, &normed, angles, dropout)?)?;
        let mut attended = attended.reshape(((), spec.query_width()))?;
        if let Some(rows) = keep {
            attended = embedding(&attended, rows)?;
            residual = embedding(&residual, rows)?;
        }
        let mut update = self.output.forward(&attended, dropout, Product::Computed)?;
        if let Some(norm) = &self.post_attention_norm {
            update = rms_norm(&update, &norm.tensor, options)?;
        }
        Ok(Stream { residual, update: Some(update) })
    }

    /// The second half. Rows are independent: any part of them can be computed alone.
    ///
    /// With [`Product::ForBackward`] the output's values are unspecified: it serves the backward pass, which does not need
    /// the last product.
    pub fn feed_forward_half(
        &self,
        spec: &DecoderSpec,
        stream: Stream,
        dropout: Option<Dropout>,
        last: Product,
    ) -> Result<Stream> {
        let options = norm_options(spec);
        let (residual, normed) = stream.normed(&self.feed_forward_norm, options)?;
        let (gate, up) = self.gate_and_up(spec, &normed, dropout)?;
        let gated = match spec.activation {
            Activation::Silu => swiglu(&gate, &up)?,
            Activation::GeluTanh => geglu(&gate, &up)?,
        };
        // The norm after it needs the product.
        let last = if self.post_feed_forward_norm.is_some() { Product::Computed } else { last };
        let mut update = self.down.forward(&gated, dropout, last)?;
        if let Some(norm) = &self.post_feed_forward_norm {
            update = rms_norm(&update, &norm.tensor, options)?;
        }
        Ok(Stream { residual, update: Some(update) })
    }

    fn heads(&self, spec: &DecoderSpec, x: &Tensor, angles: &Angles, dropout: Option<Dropout>) -> Result<Heads> {
        let (queries, keys, values) = match &self.projection {
            AttentionProjection::Separate(three) => {
                let [q, k, v] = three.as_ref();
                (
                    q.forward(x, dropout, Product::Computed)?,
                    k.forward(x, dropout, Product::Computed)?,
                    v.forward(x, dropout, Product::Computed)?,
                )
            }
            AttentionProjection::Fused(qkv) => {
                let all = qkv.forward(x, dropout, Product::Computed)?;
                let (q, kv) = (spec.query_width(), spec.kv_width());
                (columns(&all, 0..q)?, columns(&all, q..q + kv)?, columns(&all, q + kv..q + 2 * kv)?)
            }
        };
        let mut queries = queries.reshape(((), spec.heads, spec.head_dim))?;
        let mut keys = keys.reshape(((), spec.kv_heads, spec.head_dim))?;
        if let Some([q_norm, k_norm]) = &self.qk_norm {
            queries = rms_norm(&queries, &q_norm.tensor, norm_options(spec))?;
            keys = rms_norm(&keys, &k_norm.tensor, norm_options(spec))?;
        }
        Ok(Heads {
            queries: rotary(&queries, &angles.cos, &angles.sin)?,
            keys: rotary(&keys, &angles.cos, &angles.sin)?,
            values: values.reshape(((), spec.kv_heads, spec.head_dim))?,
        })
    }

    fn gate_and_up(&self, spec: &DecoderSpec, x: &Tensor, dropout: Option<Dropout>) -> Result<(Tensor, Tensor)> {
        match &self.gate_up {
            GateUp::Separate(two) => {
                let [gate, up] = two.as_ref();
                Ok((gate.forward(x, dropout, Product::Computed)?, up.forward(x, dropout, Product::Computed)?))
            }
            GateUp::Fused(both) => {
                let both = both.forward(x, dropout, Product::Computed)?;
                let width = spec.intermediate_size;
                Ok((columns(&both, 0..width)?, columns(&both, width..2 * width)?))
            }
        }
    }

    /// True if no parameter of the block is trained.
    pub fn is_frozen(&self) -> bool {
        let trained = |parameter: &Parameter| parameter.tensor.is_variable();
        !self.norms().any(trained) && !self.linears().into_iter().flat_map(Linear::parameters).any(trained)
    }

    /// The linear layers, in the layout's order.
    pub fn linears(&self) -> Vec<&Linear> {
        let (before, after) = self.linears_around_attention();
        before.into_iter().chain(after.into_iter().flatten()).collect()
    }

    /// The linear layers before attention, which share their input, and those after it, stage by stage.
    pub fn linears_around_attention(&self) -> (Vec<&Linear>, [Vec<&Linear>; 3]) {
        let before = match &self.projection {
            AttentionProjection::Separate(three) => three.iter().collect(),
            AttentionProjection::Fused(one) => vec![one],
        };
        let gate_up = match &self.gate_up {
            GateUp::Separate(two) => two.iter().collect(),
            GateUp::Fused(one) => vec![one],
        };
        (before, [vec![&self.output], gate_up, vec![&self.down]])
    }

    /// The norm before attention's projections.
    pub fn norm_before_attention(&self) -> &Parameter {
        &self.input_norm
    }

    /// The norms of queries and keys.
    pub fn norms_of_heads(&self) -> impl Iterator<Item = &Parameter> {
        self.qk_norm.iter().flatten()
    }

    /// The norms, in the layout's order.
    pub fn norms(&self) -> impl Iterator<Item = &Parameter> {
        self.qk_norm
            .iter()
            .flatten()
            .chain([&self.input_norm])
            .chain(&self.post_attention_norm)
            .chain([&self.feed_forward_norm])
            .chain(&self.post_feed_forward_norm)
    }

    pub fn norms_mut(&mut self) -> Vec<&mut Parameter> {
        let mut all = vec![&mut self.input_norm, &mut self.feed_forward_norm];
        all.extend(self.qk_norm.iter_mut().flatten());
        all.extend(&mut self.post_attention_norm);
        all.extend(&mut self.post_feed_forward_norm);
        all
    }

    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut all = Vec::new();
        match &mut self.projection {
            AttentionProjection::Separate(three) => all.extend(three.iter_mut()),
            AttentionProjection::Fused(one) => all.push(one),
        }
        all.push(&mut self.output);
        match &mut self.gate_up {
            GateUp::Separate(two) => all.extend(two.iter_mut()),
            GateUp::Fused(one) => all.push(one),
        }
        all.push(&mut self.down);
        all
    }
}

pub(crate) fn norm_options(spec: &DecoderSpec) -> NormOptions {
    NormOptions { eps: spec.norm_eps, unit_offset: spec.norm_plus_one }
}
