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
    /// What the forward pass keeps for the way back; the way back itself adds a block's worth at most.
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

/// Numbers that stay in memory between the forward pass and the way back.
fn activations(spec: &DecoderSpec, shape: &TrainingShape<'_>, adapters: &[AdaptedModule]) -> usize {
    let (tokens, rows, hidden) = (shape.tokens, shape.completion_tokens, spec.hidden_size);
    let (queries, keys, inner) = (spec.query_width(), spec.kv_width(), spec.intermediate_size);
    let last = spec.layers.len() - 1;
    // What A gives, the sum with the base; DoRA's rescaled sum on top.
    let adapter = |module: &AdaptedModule| match shape.lora {
        Some(config) => config.r + (1 + usize::from(config.dora)) * module.outputs,
        None => 0,
    };
    let in_block = |index: usize, after_attention: bool| -> usize {
        adapters.iter().filter(|m| m.block == Some(index) && m.after_attention == after_attention).map(adapter).sum()
    };
    let block = |index: usize| {
        let qk_norm = if spec.qk_norm { queries + keys } else { 0 };
        // Columns of a fused projection are copied out of it.
        let (fused_heads, fused_gate) = match spec.projections {
            Projections::Fused => (queries + 2 * keys, 2 * inner),
            Projections::Separate => (0, 0),
        };
        // Residual sum and its norm, projections, their norms and rotations, attention's output.
        let before = 2 * hidden
            + (queries + 2 * keys)
            + qk_norm
            + (queries + keys)
            + queries
            + fused_heads
            + in_block(index, false);
        let post_norms = if spec.norms == NormPlacement::PreAndPost { 2 * hidden } else { 0 };
        // Output projection, sum, norm, gate, up, their product, down.
        let after = 4 * hidden + 3 * inner + fused_gate + post_norms + in_block(index, true);
        let (after_rows, gathered) = if index == last { (rows, queries + hidden) } else { (tokens, 0) };
        tokens * before + after_rows * (after + gathered)
    };
    let embedding = tokens * hidden * if spec.embedding_scale.is_some() { 2 } else { 1 };
    let head: usize = adapters.iter().filter(|m| m.block.is_none()).map(|_| hidden + 2 * rank(shape)).sum();
    let finish = rows * (2 * hidden + head);
    match shape.checkpointing {
        false => embedding + (0..=last).map(block).sum::<usize>() + finish,
        // One input a block, and the largest of the parts that are computed again.
        true => (last + 1) * tokens * hidden + rows * hidden + (0..=last).map(block).chain([finish]).max().unwrap_or(0),
    }
}

fn rank(shape: &TrainingShape<'_>) -> usize {
    shape.lora.map_or(0, |config| config.r)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::PathBuf;

    use super::*;
    use crate::batch::PackedBatch;
    use crate::decoder::Decoder;

    fn case_dir(case: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
    }

    /// What candle's graph really holds: the buffers behind every result on a path to a variable. Views share them.
    fn held(decoder: &Decoder, batch: &PackedBatch) -> usize {
        let log_probs = decoder.log_probs(batch).unwrap();
        let mut buffers = HashMap::new();
        for node in log_probs.sorted_nodes().into_iter().filter(|node| !node.is_variable()) {
            let buffer = std::ptr::from_ref(&*node.storage_and_layout().0);
            let largest: &mut usize = buffers.entry(buffer).or_default();
            *largest = node.elem_count().max(*largest);
        }
        buffers.values().sum()
    }

    #[test]
    fn estimated_activations_are_what_the_graph_holds() {
        let prompt: Vec<u32> = (0..20).collect();
        let batch = PackedBatch::from_pairs([(&prompt[..], &prompt[..9], &prompt[..11])]).unwrap();
        for case in ["qwen2", "qwen3", "phi3", "gemma2", "gemma3"] {
            for lora in [false, true] {
                let mut decoder = Decoder::load(case_dir(case)).unwrap();
                let config = LoraConfig {
                    r: 2,
                    alpha: 2.0,
                    dropout: 0.0,
                    rslora: false,
                    dora: false,
                    targets: vec!["all-linear".into()],
                };
                if lora {
                    decoder.add_lora(&config, 0).unwrap();
                }
                let shape = TrainingShape {
                    tokens: batch.tokens(),
                    completion_tokens: batch.targets().len(),
                    lora: lora.then_some(&config),
                    layers: &[],
                    checkpointing: false,
                };
                let estimate = MemoryEstimate::new(decoder.spec(), &shape).unwrap();
                let (estimated, held) = (estimate.activations as f64 / 4.0, held(&decoder, &batch) as f64);
                // Under adapters the walk misses what the first block's frozen layers feed in, which is held all the same.
                let most = if lora { 1.2 } else { 1.1 };
                assert!((0.9..most).contains(&(estimated / held)), "{case}, lora {lora}: {estimated}, held {held}");
                let trained: usize = decoder.trainable().iter().map(|(_, v)| v.elem_count()).sum();
                assert_eq!(estimate.optimizer, 8 * trained as u64);
                let less =
                    MemoryEstimate::new(decoder.spec(), &TrainingShape { checkpointing: true, ..shape }).unwrap();
                assert!(less.activations < estimate.activations);
                if !lora {
                    let layers = ["down_proj".to_string(), "model.norm".to_string()];
                    decoder.train_only(&layers).unwrap();
                    let part =
                        MemoryEstimate::new(decoder.spec(), &TrainingShape { layers: &layers, ..shape }).unwrap();
                    let trained: usize = decoder.trainable().iter().map(|(_, v)| v.elem_count()).sum();
                    assert_eq!((part.gradients, part.weights), (4 * trained as u64, estimate.weights));
                }
            }
        }
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
