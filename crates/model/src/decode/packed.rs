//! The decoder laid out for decoding: matrices packed, adapters merged into float32 ones, no gradients.

use std::path::Path;

use smpo_kernels::decode::{CacheShape, DeltaWeights, PackedMatrix, gain};
use smpo_kernels::{Gate, RouterOptions, Weight};

use crate::block::{Block, norm_options};
use crate::decode::low_rank::LowRank;
use crate::decoder::Decoder;
use crate::delta_net::{self, DeltaNet};
use crate::error::Result;
use crate::feed_forward::{FeedForwardLayer, Gated};
use crate::linear::Linear;
use crate::matrix::Matrix;
use crate::parameter::Parameter;
use crate::placement::{Placement, host_values};
use crate::spec::{BlockNorms, DecoderSpec, LayerSpec};

/// A [`Decoder`] packed for decoding: matrices copied to another layout, with the adapters of float32 ones merged in. It
/// takes about as much memory as the decoder again, in float32 for blocks of a GGUF file without an adapter; blocks of
/// experts, few of which a token passes through, and four-bit blocks are shared as the embedding is; later training does not
/// change it.
///
/// The logits of a sequence depend on that sequence alone in every bit: not on the batch, the order or the threads.
#[derive(Debug, Clone)]
pub struct PackedDecoder {
    pub(super) spec: DecoderSpec,
    pub(super) embedding: Matrix,
    pub(super) blocks: Vec<PackedBlock>,
    pub(super) norm: Vec<f32>,
    pub(super) head: Projection,
}

#[derive(Debug, Clone)]
pub(super) struct PackedBlock {
    pub cache: CacheShape,
    pub rope: Option<usize>,
    pub norms: BlockNorms<Vec<f32>>,
    /// Queries, keys and values, one below the other; or the inputs of the gated delta net.
    pub qkv: Projection,
    pub delta: Option<PackedDelta>,
    pub qk_norm: Option<[Vec<f32>; 2]>,
    /// Attention sinks.
    pub sinks: Option<Vec<f32>>,
    pub output: Projection,
    pub gate: Gate,
    pub feed_forward: PackedFeedForward,
}

#[derive(Debug, Clone)]
pub(super) struct PackedDelta {
    pub weights: DeltaWeights,
    pub norm: Vec<f32>,
}

#[derive(Debug, Clone)]
pub(super) enum PackedFeedForward {
    Gated(PackedGated),
    Routed { router: Projection, options: RouterOptions, experts: Vec<PackedGated> },
}

#[derive(Debug, Clone)]
pub(super) struct PackedGated {
    /// Gate and up, one below the other.
    pub gate_up: Projection,
    pub down: Projection,
}

#[derive(Debug, Clone)]
pub(super) struct Projection {
    pub matrix: PackedMatrix,
    pub bias: Option<Vec<f32>>,
    /// Adapters of weights that are not float32, each of some of the outputs.
    pub adapters: Vec<LowRank>,
}

/// Blocks of a file, which hold its values exactly, in a copy for decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    /// In float32.
    Widened,
    /// As they are, shared with the decoder.
    Shared,
}

impl Decoder {
    /// A copy for decoding, on the CPU in float32 wherever the weights lie.
    ///
    /// # Errors
    /// When a tensor cannot be created.
    pub fn pack(&self) -> Result<PackedDecoder> {
        if !self.placement().is_host() {
            return self.placed(&Placement::default())?.pack();
        }
        self.expect_language_model(Path::new("model"))?;
        self.expect_whole("model to sample from")?;
        let spec = self.spec().clone();
        let blocks = self.blocks.iter().zip(&spec.layers);
        Ok(PackedDecoder {
            embedding: self.embedding.detached(),
            blocks: blocks.map(|(block, layer)| PackedBlock::new(&spec, layer, block)).collect::<Result<_>>()?,
            norm: gain(&self.norm.tensor, norm_options(&spec))?,
            head: Projection::stack(&[&self.head])?,
            spec,
        })
    }
}

impl PackedDecoder {
    /// Decoder specification.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Bytes of the weights that one step of one sequence reads.
    pub fn weight_bytes(&self) -> usize {
        let blocks = self.blocks.iter().map(|b| b.qkv.bytes() + b.output.bytes() + b.feed_forward.bytes());
        blocks.sum::<usize>() + self.head.bytes()
    }
}

impl PackedDecoder {
    /// Bytes of keys and values of one token.
    pub fn token_bytes(&self) -> usize {
        let attending = self.blocks.iter().filter(|block| block.delta.is_none()).count();
        2 * attending * self.spec.kv_width() * size_of::<f32>()
    }

    /// Bytes of the states of one sequence, of any length.
    pub fn state_bytes(&self) -> usize {
        self.blocks.iter().filter_map(|block| block.delta.as_ref()).map(|delta| delta.weights.state_bytes()).sum()
    }
}

impl PackedBlock {
    fn new(spec: &DecoderSpec, layer: &LayerSpec, block: &Block) -> Result<Self> {
        let gain = |norm: &Parameter| -> Result<Vec<f32>> { Ok(gain(&norm.tensor, norm_options(spec))?) };
        let mut of_heads = block.norms_of_heads();
        let qk_norm = match (of_heads.next(), of_heads.next()) {
            (Some(queries), Some(keys)) => Some([gain(queries)?, gain(keys)?]),
            _ => None,
        };
        Ok(Self {
            cache: CacheShape {
                heads: spec.heads,
                kv_heads: spec.kv_heads,
                head_dim: spec.head_dim,
                scale: spec.attention_scale as f32,
                soft_cap: spec.attention_soft_cap.map(|cap| cap as f32),
                window: layer.window,
            },
            rope: layer.rope,
            norms: block.block_norms().try_map(gain)?,
            qk_norm,
            sinks: block.sinks().map(|sinks| host_values(&sinks.tensor)).transpose()?,
            qkv: Projection::stack(&block.heads_linears())?,
            delta: block.delta().map(|net| PackedDelta::new(spec, net)).transpose()?,
            output: Projection::stack(&[block.output()])?,
            gate: spec.activation.gate(),
            feed_forward: PackedFeedForward::new(block.feed_forward())?,
        })
    }
}

impl PackedDelta {
    fn new(spec: &DecoderSpec, net: &DeltaNet) -> Result<Self> {
        let [convolution, rate, bias, norm] = net.vectors().map(|parameter| &parameter.tensor);
        Ok(Self {
            weights: DeltaWeights::new(net.heads(), convolution, rate, bias)?,
            norm: gain(norm, delta_net::norm_options(spec.norm_eps))?,
        })
    }
}

impl PackedFeedForward {
    fn new(layer: &FeedForwardLayer) -> Result<Self> {
        match layer {
            FeedForwardLayer::Gated(layer) => Ok(Self::Gated(PackedGated::new(layer, Stored::Widened)?)),
            FeedForwardLayer::Routed(experts) => Ok(Self::Routed {
                router: Projection::stack(&[experts.router()])?,
                options: experts.options(),
                experts: {
                    let each = experts.each().iter();
                    each.map(|expert| PackedGated::new(expert, Stored::Shared)).collect::<Result<_>>()?
                },
            }),
        }
    }

    /// Bytes of the weights that a token reads.
    fn bytes(&self) -> usize {
        match self {
            Self::Gated(layer) => layer.bytes(),
            Self::Routed { router, options, experts } => {
                let all: usize = experts.iter().map(PackedGated::bytes).sum();
                router.bytes() + all / experts.len().max(1) * options.per_token
            }
        }
    }
}

impl PackedGated {
    fn new(layer: &Gated, blocks: Stored) -> Result<Self> {
        let stack = |linears: &[&Linear]| Projection::stack_with(linears, blocks);
        Ok(Self { gate_up: stack(&layer.gate_up())?, down: stack(&[&layer.down])? })
    }

    fn bytes(&self) -> usize {
        self.gate_up.bytes() + self.down.bytes()
    }
}

impl Projection {
    fn stack(linears: &[&Linear]) -> Result<Self> {
        Self::stack_with(linears, Stored::Widened)
    }

    fn stack_with(linears: &[&Linear], blocks: Stored) -> Result<Self> {
        let (mut merged, mut adapters, mut first) = (Vec::new(), Vec::new(), 0);
        for linear in linears {
            merged.push(match &linear.adapter {
                Some(adapter) if linear.weight.is_float32() => Some(adapter.merged(&linear.weight)?),
                // Dequantised once here, not at every token.
                None if blocks == Stored::Widened && linear.weight.is_exact() => {
                    Some(linear.weight.dense(&Placement::default())?.into_owned())
                }
                _ => None,
            });
            if let (Some(adapter), None) = (&linear.adapter, &merged[merged.len() - 1]) {
                adapters.push(LowRank::new(first, adapter, &linear.weight)?);
            }
            first += linear.weight.shape()?.0;
        }
        let mut bias = Vec::new();
        for parameter in linears.iter().filter_map(|linear| linear.bias.as_ref()) {
            bias.extend(parameter.tensor.to_vec1::<f32>()?);
        }
        let weights = linears.iter().zip(&merged);
        let weights: Vec<Weight<'_>> =
            weights.map(|(linear, merged)| merged.as_ref().map_or(linear.weight.weight(), Weight::Tensor)).collect();
        // A layout gives a bias to all of the stacked layers or to none.
        Ok(Self { matrix: PackedMatrix::stack(&weights)?, bias: (!bias.is_empty()).then_some(bias), adapters })
    }

    fn bytes(&self) -> usize {
        self.matrix.bytes() + self.adapters.iter().map(LowRank::bytes).sum::<usize>()
    }
}
