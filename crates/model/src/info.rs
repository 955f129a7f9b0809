//! What a model directory holds, from its configuration and the headers of its weight files alone.

use std::path::Path;

use crate::config::Config;
use crate::error::Result;
use crate::families::Family;
use crate::layout::{HEAD, Role, Slot, layout};
use crate::lora::{LoraConfig, chosen_modules};
use crate::parameter::check_names;
use crate::spec::{DecoderSpec, NormPlacement, Projections};
use crate::trainable::NamedParameters;
use crate::weights::{Element, ElementCounts, WeightFiles};

/// A model directory at a glance.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Its family.
    pub family: Family,
    /// Numbers it holds; a tied head counts once.
    pub parameters: usize,
    /// The element types its weights are stored in, the commonest first.
    pub elements: Vec<Element>,
    /// Bytes its tensors take on the disk.
    pub stored_bytes: u64,
    /// Weight files.
    pub shards: usize,
    /// The longest sequence it was made for, in tokens, when the configuration says so.
    pub context: Option<usize>,
    /// What drives the decoder.
    pub spec: DecoderSpec,
}

impl ModelInfo {
    /// Looks at a model directory. No weight is read.
    ///
    /// # Errors
    /// As [`crate::Decoder::load`], but for what only the weights' values can tell.
    pub fn read(dir: impl AsRef<Path>) -> Result<Self> {
        let config = Config::from_dir(dir.as_ref())?;
        let files = WeightFiles::open(dir.as_ref(), "model")?;
        let slots = layout(config.spec());
        check_names(config.spec(), &slots, &files)?;
        let mut counts = ElementCounts::default();
        for slot in &slots {
            counts.add(files.expect(&slot.name, &slot.shape)?, slot.shape.iter().product());
        }
        Ok(Self {
            family: config.family(),
            parameters: counts.total(),
            elements: counts.commonest_first(),
            stored_bytes: counts.bytes(),
            shards: files.files().len(),
            context: config.field("max_position_embeddings").and_then(|v| v.as_u64()).map(|n| n as usize),
            spec: config.spec().clone(),
        })
    }
}

/// A micro-batch, and how it is trained on.
#[derive(Debug, Clone, Copy)]
pub struct TrainingShape<'a> {
    /// `N`: packed tokens.
    pub tokens: usize,
    /// `M`: completion tokens.
    pub completion_tokens: usize,
    /// Adapters; without them the weights are trained.
    pub lora: Option<&'a LoraConfig>,
    /// The weights that are trained, as [`crate::Decoder::train_only`] takes them; all when empty. Adapters exclude it.
    pub layers: &'a [String],
    /// Whether blocks are computed again on the way back.
    pub checkpointing: bool,
}

/// Memory that training takes on the CPU in float32, in bytes, but for what the program itself takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The weights, adapters included.
    pub weights: u64,
    /// One gradient a trained parameter.
    pub gradients: u64,
    /// AdamW's two moments a trained parameter.
    pub optimizer: u64,
    /// What the forward pass keeps for the way back, and what the way back adds at its peak.
    pub activations: u64,
}

impl MemoryEstimate {
    /// Estimates from shapes alone.
    ///
    /// # Errors
    /// When a target of the adapters or a pattern names no layer.
    pub fn new(spec: &DecoderSpec, shape: &TrainingShape<'_>) -> Result<Self> {
        let slots = layout(spec);
        let count = |slot: &Slot| slot.shape.iter().product::<usize>();
        let base: usize = slots.iter().map(count).sum();
        let adapters = match shape.lora {
            Some(config) => adapted(spec, config)?,
            None => Vec::new(),
        };
        let added: usize = match shape.lora {
            Some(config) => adapters
                .iter()
                .map(|module| config.r * (module.inputs + module.outputs) + usize::from(config.dora) * module.outputs)
                .sum(),
            None => 0,
        };
        let trained = match (shape.lora, shape.layers) {
            (Some(_), _) => added,
            (None, []) => base,
            (None, patterns) => {
                let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
                let named = NamedParameters::new(patterns, &names, spec.tied)?;
                slots.iter().filter(|slot| named.contain(&slot.name)).map(count).sum()
            }
        };
        let bytes = |numbers: usize| numbers as u64 * Element::F32.bytes() as u64;
        Ok(Self {
            weights: bytes(base + added),
            gradients: bytes(trained),
            optimizer: bytes(2 * trained),
            activations: bytes(activations(spec, shape, &adapters)),
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.activations
    }
}

struct AdaptedModule {
    /// The block it lies in; the head lies in none.
    block: Option<usize>,
    /// Whether it comes after attention.
    after_attention: bool,
    inputs: usize,
    outputs: usize,
}

fn adapted(spec: &DecoderSpec, config: &LoraConfig) -> Result<Vec<AdaptedModule>> {
    let mut modules: Vec<(String, usize, usize)> = layout(spec)
        .into_iter()
        .filter(|slot| slot.role == Role::Weight)
        .map(|slot| (slot.name.trim_end_matches(".weight").to_string(), slot.shape[0], slot.shape[1]))
        .collect();
    if spec.tied {
        modules.push((HEAD.into(), spec.vocab_size, spec.hidden_size));
    }
    let names: Vec<&str> = modules.iter().map(|(name, ..)| name.as_str()).collect();
    let chosen = chosen_modules(&config.targets, &names)?;
    Ok(modules
        .iter()
        .zip(chosen)
        .filter(|(_, chosen)| *chosen)
        .map(|((name, outputs, inputs), _)| AdaptedModule {
            block: name.split('.').find_map(|part| part.parse().ok()),
            after_attention: name.contains(".mlp.") || name.ends_with("o_proj"),
            inputs: *inputs,
            outputs: *outputs,
        })
        .collect())
}

/// Numbers in memory at the peak of one forward and backward pass on a [`smpo_kernels::Tape`]: what it keeps up to a
/// block, and what that block's way back adds.
fn activations(spec: &DecoderSpec, shape: &TrainingShape<'_>, adapters: &[AdaptedModule]) -> usize {
    let (tokens, rows, hidden) = (shape.tokens, shape.completion_tokens, spec.hidden_size);
    let (queries, keys, inner) = (spec.query_width(), spec.kv_width(), spec.intermediate_size);
    let last = spec.layers.len() - 1;
    // What A gives. DoRA's plain tensor operations keep the sum with the base and its rescaled copy too.
    let adapter = |module: &AdaptedModule| match shape.lora {
        Some(config) => config.r + 2 * usize::from(config.dora) * module.outputs,
        None => 0,
    };
    let adapted = |index: usize, after_attention: bool| -> usize {
        adapters.iter().filter(|m| m.block == Some(index) && m.after_attention == after_attention).map(adapter).sum()
    };
    // The norm's input, its inverse root mean squares aside; queries and keys, rotated, and before their own norms;
    // values; attention's output. Norms are made again on the way back.
    let qk_norm = if spec.qk_norm { queries + keys } else { 0 };
    let attention = |index: usize| hidden + qk_norm + 2 * (queries + keys) + adapted(index, false);
    // Norm's input, gate and up. Their product is made again on the way back.
    let post_norms = if spec.norms == NormPlacement::PreAndPost { 2 * hidden } else { 0 };
    let feed_forward = |index: usize| hidden + 2 * inner + post_norms + adapted(index, true);
    // Gradients of a fused projection's columns are put together beside them.
    let (fused_heads, fused_gate) = match spec.projections {
        Projections::Fused => (queries + 2 * keys, 2 * inner),
        Projections::Separate => (0, 0),
    };
    // The gradients of gate, up and their product, or the product made again; those of the stream.
    let feed_forward_back = 3 * inner + 2 * hidden;
    // Those of queries, keys, values and attention's output; those of the stream.
    let attention_back = 2 * (queries + keys) + 2 * hidden;
    // Gradients of the block above whose memory waits to be used again.
    let spare = 3 * hidden + fused_heads + fused_gate;
    let embedding = tokens * hidden * usize::from(spec.embedding_scale.is_some());
    let angles = tokens * spec.head_dim * spec.ropes.len();
    // The last norm's input and the head's, with an adapter what it appends.
    let head: usize = adapters.iter().filter(|m| m.block.is_none()).map(|_| hidden + 2 * rank(shape)).sum();
    let finish = rows * (2 * hidden + head);
    let rows_after = |index: usize| if index == last { rows } else { tokens };
    if shape.checkpointing {
        // One input a block but the first, and a block computed again in halves, the second part by part.
        let inputs = last * tokens * hidden + rows * hidden;
        let part = crate::decoder::feed_forward_rows(inner).min(tokens);
        let block = |index: usize| {
            let kept = tokens * (attention(index) + hidden);
            let second = part * (feed_forward(index) + feed_forward_back) + 2 * rows_after(index) * hidden;
            kept + second.max(tokens * attention_back)
        };
        return embedding + angles + inputs + (0..=last).map(block).max().unwrap_or(0).max(finish);
    }
    let mut held = embedding + angles;
    let mut peak = 0;
    for index in 0..=last {
        let after = rows_after(index);
        held += tokens * attention(index);
        peak = peak.max(held + tokens * (attention_back + spare));
        // The rows that the last block keeps are gathered.
        held += after * feed_forward(index) + if index == last { rows * queries } else { 0 };
        peak = peak.max(held + after * (feed_forward_back + spare));
    }
    peak.max(held + finish + rows * hidden)
}

fn rank(shape: &TrainingShape<'_>) -> usize {
    shape.lora.map_or(0, |config| config.r)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::decoder::Decoder;

    fn case_dir(case: &str) -> PathBuf {
        smpo_fixtures::golden("model", case)
    }

    #[test]
    fn trained_parameters_have_a_gradient_and_two_moments() {
        let mut decoder = Decoder::load(case_dir("qwen3")).unwrap();
        let layers = ["down_proj".to_string(), "model.norm".to_string()];
        let shape = TrainingShape { tokens: 8, completion_tokens: 4, lora: None, layers: &[], checkpointing: false };
        let estimate = |shape| MemoryEstimate::new(&decoder.spec().clone(), &shape).unwrap();
        let all = decoder.parameter_count() as u64;
        let whole = estimate(shape);
        assert_eq!((whole.weights, whole.gradients, whole.optimizer), (4 * all, 4 * all, 8 * all));
        let part = estimate(TrainingShape { layers: &layers, ..shape });
        decoder.train_only(&layers).unwrap();
        let trained: usize = decoder.trainable().iter().map(|(_, v)| v.elem_count()).sum();
        assert_eq!((part.weights, part.gradients, part.optimizer), (4 * all, 4 * trained as u64, 8 * trained as u64));
    }

    #[test]
    fn a_directory_is_described_without_its_weights() {
        let info = ModelInfo::read(case_dir("gemma2")).unwrap();
        let decoder = Decoder::load(case_dir("gemma2")).unwrap();
        assert_eq!(info.parameters, decoder.parameter_count());
        assert_eq!((info.family, info.shards, info.context), (Family::Gemma2, 1, Some(128)));
        assert_eq!((info.elements, info.stored_bytes), (vec![Element::F32], 4 * info.parameters as u64));
    }
}
