//! The decoder laid out for decoding: adapters merged in, matrices packed, no gradients.

use candle_core::Tensor;
use smpo_kernels::decode::{CacheShape, Gate, PackedMatrix, gain};

use crate::block::{Block, norm_options};
use crate::decoder::Decoder;
use crate::error::Result;
use crate::linear::Linear;
use crate::parameter::Parameter;
use crate::placement::Placement;
use crate::spec::{Activation, BlockNorms, DecoderSpec, LayerSpec};

/// A [`Decoder`] packed for decoding: adapters merged in, matrices copied to another layout. It takes about as much memory
/// as the decoder again, and later training does not change it; the embedding is shared.
///
/// The logits of a sequence depend on that sequence alone in every bit: not on the batch, the order or the threads.
#[derive(Debug, Clone)]
pub struct PackedDecoder {
    pub(super) spec: DecoderSpec,
    pub(super) embedding: Tensor,
    pub(super) blocks: Vec<PackedBlock>,
    pub(super) norm: Vec<f32>,
    pub(super) head: PackedMatrix,
}

#[derive(Debug, Clone)]
pub(super) struct PackedBlock {
    pub cache: CacheShape,
    pub rope: Option<usize>,
    pub norms: BlockNorms<Vec<f32>>,
    /// Queries, keys and values, one below the other.
    pub qkv: Projection,
    pub qk_norm: Option<[Vec<f32>; 2]>,
    pub output: Projection,
    pub gate: Gate,
    /// Gate and up, one below the other.
    pub gate_up: Projection,
    pub down: Projection,
}

#[derive(Debug, Clone)]
pub(super) struct Projection {
    pub matrix: PackedMatrix,
    pub bias: Option<Vec<f32>>,
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
        let spec = self.spec().clone();
        let blocks = self.blocks.iter().zip(&spec.layers);
        Ok(PackedDecoder {
            embedding: self.embedding.tensor.detach(),
            blocks: blocks.map(|(block, layer)| PackedBlock::new(&spec, layer, block)).collect::<Result<_>>()?,
            norm: gain(&self.norm.tensor, norm_options(&spec))?,
            head: PackedMatrix::stack(&[&merged(&self.head)?])?,
            spec,
        })
    }
}

impl PackedDecoder {
    /// Decoder specification.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Bytes of the weights that one step reads.
    pub fn weight_bytes(&self) -> usize {
        let projections = self.blocks.iter().flat_map(|b| [&b.qkv, &b.output, &b.gate_up, &b.down]);
        let matrices = projections.map(|p| &p.matrix).chain([&self.head]);
        matrices.map(|m| m.outputs() * m.inputs() * size_of::<f32>()).sum()
    }
}

impl PackedBlock {
    fn new(spec: &DecoderSpec, layer: &LayerSpec, block: &Block) -> Result<Self> {
        let (qkv, [output, gate_up, down]) = block.linears_around_attention();
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
            qkv: Projection::stack(&qkv)?,
            output: Projection::stack(&output)?,
            gate: match spec.activation {
                Activation::Silu => Gate::Silu,
                Activation::GeluTanh => Gate::GeluTanh,
            },
            gate_up: Projection::stack(&gate_up)?,
            down: Projection::stack(&down)?,
        })
    }
}

impl Projection {
    fn stack(linears: &[&Linear]) -> Result<Self> {
        let weights = linears.iter().map(|linear| merged(linear)).collect::<Result<Vec<_>>>()?;
        let mut bias = Vec::new();
        for parameter in linears.iter().filter_map(|linear| linear.bias.as_ref()) {
            bias.extend(parameter.tensor.to_vec1::<f32>()?);
        }
        let matrix = PackedMatrix::stack(&weights.iter().collect::<Vec<_>>())?;
        // A layout gives a bias to all of the stacked layers or to none.
        Ok(Self { matrix, bias: (!bias.is_empty()).then_some(bias) })
    }
}

fn merged(linear: &Linear) -> Result<Tensor> {
    match &linear.adapter {
        None => Ok(linear.weight.tensor.detach()),
        Some(adapter) => adapter.merged(&linear.weight.tensor),
    }
}
