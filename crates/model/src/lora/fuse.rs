//! Adapters of single experts as one of all experts of a block, which PEFT reads where the experts are one parameter
//! (`target_parameters`): of gate and up together, with the ranks of both.

use std::collections::HashSet;

use candle_core::{Device, Tensor};

use super::Adapter;
use super::fused_experts::{A, B};
use crate::decoder::Decoder;
use crate::error::Result;
use crate::feed_forward::FeedForwardLayer;
use crate::layout::{EXPERTS, block_prefix};
use crate::linear::Linear;
use crate::placement::host_values;
use crate::spec::ExpertLayout;
use crate::stacked::{Outputs, stacked_place};

/// Adapters of one parameter.
pub(super) struct FusedAdapter {
    /// The parameter's name.
    pub parameter: String,
    pub rank: usize,
    /// Factor on the update.
    pub scale: f64,
    /// A (E·r, in) and B (out, r·E), with their names.
    pub tensors: [(String, Tensor); 2],
    /// Modules of the single adapters.
    pub modules: HashSet<String>,
}

/// A layer of all experts of a block.
struct ExpertLayer<'a> {
    outputs: Outputs,
    /// By expert.
    linears: Vec<(&'a Linear, &'a Adapter)>,
}

impl Decoder {
    /// The adapters of experts that have all experts of a block in one parameter, fused where PEFT can have them so: every
    /// expert has one, with the same rank and scale, and none has DoRA's magnitudes or starts as a part of the base.
    pub(super) fn fused_adapters(&self) -> Result<Vec<FusedAdapter>> {
        let stacked = |layout| layout == ExpertLayout::Stacked;
        if !self.spec().experts.as_ref().is_some_and(|experts| stacked(experts.layout)) {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            let FeedForwardLayer::Routed(experts) = block.feed_forward() else { continue };
            let linears: Vec<[&Linear; 3]> =
                experts.each().iter().filter_map(|expert| expert.linears().try_into().ok()).collect();
            let layer = |place: usize| ExpertLayer::new(linears.iter().map(|expert| expert[place]));
            let down: Vec<ExpertLayer<'_>> = layer(2).into_iter().collect();
            let gate_up: Vec<ExpertLayer<'_>> = [0, 1].into_iter().filter_map(layer).collect();
            // One that cannot be fused keeps the others of its parameter from it.
            let adapted = |places: &[usize]| {
                let of = |place: &&usize| linears.iter().any(|expert| expert[**place].adapter.is_some());
                places.iter().filter(of).count()
            };
            let block = format!("{}{}", block_prefix(index), EXPERTS.trim_end_matches('.'));
            let whole = [down.len() == adapted(&[2]), gate_up.len() == adapted(&[0, 1])];
            let down = if whole[0] { fuse(&block, &down)? } else { None };
            let mut gate_up = if whole[1] { fuse(&block, &gate_up)? } else { None };
            if let (Some(_), Some(inner)) = (&down, &mut gate_up) {
                // PEFT wraps the wrapped parameter of the same module again.
                for (name, end) in inner.tensors.iter_mut().map(|(name, _)| name).zip([A, B]) {
                    *name = format!("{block}.base_layer{end}");
                }
            }
            all.extend([down, gate_up].into_iter().flatten());
        }
        Ok(all)
    }
}

impl<'a> ExpertLayer<'a> {
    /// The layer, if all experts have an adapter of it that can be fused.
    fn new(linears: impl Iterator<Item = &'a Linear>) -> Option<Self> {
        let linears: Option<Vec<_>> = linears.map(|linear| Some((linear, linear.adapter.as_ref()?))).collect();
        let linears = linears.filter(|linears| !linears.is_empty())?;
        let (first, adapter) = linears[0];
        let fits = |other: &Adapter| {
            let plain = other.magnitude.is_none() && other.start.is_none();
            plain && other.rank() == adapter.rank() && other.scale() == adapter.scale()
        };
        let outputs = stacked_place(&format!("{}.weight", first.module))?.outputs;
        linears.iter().all(|(_, other)| fits(other)).then_some(Self { outputs, linears })
    }
}

/// Fuses the layers of a parameter; `None` for no layer, and for scales that differ.
fn fuse(block: &str, layers: &[ExpertLayer<'_>]) -> Result<Option<FusedAdapter>> {
    let Some((first, adapter)) = layers.first().map(|layer| layer.linears[0]) else { return Ok(None) };
    let scale = adapter.scale();
    if layers.iter().any(|layer| layer.linears[0].1.scale() != scale) {
        return Ok(None);
    }
    let Some(place) = stacked_place(&format!("{}.weight", first.module)) else { return Ok(None) };
    let (outputs, inputs) = first.weight.shape()?;
    let (experts, rows) = (layers[0].linears.len(), outputs * place.outputs.step);
    let rank: usize = layers.iter().map(|layer| layer.linears[0].1.rank()).sum();
    let (mut a, mut b) = (Vec::with_capacity(experts * rank * inputs), vec![0.0; rows * rank * experts]);
    for expert in 0..experts {
        let mut before = 0;
        for layer in layers {
            let (_, adapter) = layer.linears[expert];
            a.extend(host_values(&adapter.a.tensor)?);
            let own = adapter.rank();
            for (output, row) in host_values(&adapter.b.tensor)?.chunks_exact(own).enumerate() {
                for (k, value) in row.iter().enumerate() {
                    b[(layer.outputs.of(output) * rank + before + k) * experts + expert] = *value;
                }
            }
            before += own;
        }
    }
    Ok(Some(FusedAdapter {
        parameter: place.whole,
        rank,
        scale,
        tensors: [
            (format!("{block}{A}"), Tensor::from_vec(a, (experts * rank, inputs), &Device::Cpu)?),
            (format!("{block}{B}"), Tensor::from_vec(b, (rows, rank * experts), &Device::Cpu)?),
        ],
        modules: layers.iter().flat_map(|layer| &layer.linears).map(|(linear, _)| linear.module.clone()).collect(),
    }))
}
