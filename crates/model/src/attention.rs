//! Attention as a block needs it: within packed sequences, or to keys and values that a cache holds.

use candle_core::Tensor;
use smpo_kernels::decode::StackedHeads;
use smpo_kernels::{AttentionOptions, Segments, attention, attention_with_sinks};

use crate::error::Result;
use crate::spec::{DecoderSpec, LayerSpec};

/// Rotated queries and keys, and values: (`N`, heads, `head_dim`) each.
pub(crate) struct Heads {
    pub queries: Tensor,
    pub keys: Tensor,
    pub values: Tensor,
    /// Attention sinks, (heads).
    pub sinks: Option<Tensor>,
}

/// The attention of a pass, layer after layer.
pub(crate) trait Attention {
    /// Outputs, (`N`, heads, `head_dim`).
    fn attend(&mut self, layer: &LayerSpec, heads: Heads) -> Result<Tensor>;

    /// The same from the product of stacked projections, where it can take that apart by itself.
    fn of_stacked(&mut self) -> Option<&mut dyn StackedAttention> {
        None
    }
}

/// Attention from the product of stacked projections.
pub(crate) trait StackedAttention {
    /// Outputs, (`N`, heads, `head_dim`).
    fn attend_stacked(&mut self, layer: &LayerSpec, stacked: &StackedHeads<'_>) -> Result<Tensor>;
}

impl<F: FnMut(&LayerSpec, Heads) -> Result<Tensor>> Attention for F {
    fn attend(&mut self, layer: &LayerSpec, heads: Heads) -> Result<Tensor> {
        self(layer, heads)
    }
}

/// Attention within segments.
pub(crate) fn attend_packed(
    spec: &DecoderSpec,
    layer: &LayerSpec,
    heads: &Heads,
    segments: &Segments,
) -> Result<Tensor> {
    let options = attention_options(spec, layer);
    let Heads { queries, keys, values, sinks } = heads;
    Ok(match sinks {
        None => attention(queries, keys, values, segments, options)?,
        Some(sinks) => attention_with_sinks(queries, keys, values, sinks, segments, options)?,
    })
}

pub(crate) fn attention_options(spec: &DecoderSpec, layer: &LayerSpec) -> AttentionOptions {
    AttentionOptions { scale: spec.attention_scale, soft_cap: spec.attention_soft_cap, window: layer.window }
}
