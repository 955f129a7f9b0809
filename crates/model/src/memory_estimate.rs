//! Estimate of the memory that training takes.

use std::collections::BTreeMap;

use smpo_kernels::MomentFormat;

use crate::error::Result;
use crate::layout::{DELTA_INPUTS, EXPERTS, HEAD, Role, Slot, block_of, is_head, layout};
use crate::lora::{LoraConfig, chosen_modules};
use crate::spec::{DecoderSpec, FeedForward, QkNorm};
use crate::storage::{FourBitOptions, Storage};
use crate::trainable::NamedParameters;
use crate::weights::{MXFP4_BITS, WeightDtype};

/// A pack, and how it is trained on.
#[derive(Debug, Clone, Copy)]
pub struct TrainingShape<'a> {
    /// `N`: packed tokens.
    pub tokens: usize,
    /// `M`: completion tokens.
    pub completion_tokens: usize,
    /// Adapters; `None` trains the weights.
    pub lora: Option<&'a LoraConfig>,
    /// Patterns of the trained parameters, as of [`crate::Decoder::train_only`]; empty trains all, or adapters alone.
    pub layers: &'a [String],
    /// True if blocks are recomputed in the backward pass.
    pub checkpointing: bool,
    /// Storage of what is not trained.
    pub frozen: FrozenStorage<'a>,
    /// Storage of AdamW's moments.
    pub moments: MomentFormat,
    /// dtype of weights and activations on a GPU; `None` on the CPU, which computes in float32 and keeps frozen matrices as
    /// they are stored.
    pub device: Option<WeightDtype>,
    /// Processes that the weights of blocks, and their gradients, lie in parts in; 1 for whole ones.
    pub processes: usize,
}

/// Copies of the largest block's weights while a block is used: itself, and its parts as they came from the processes.
const GATHERED: f64 = 2.0;
/// Copies of its gradient while it is summed: itself, as it is sent, and what comes from the others.
const REDUCED: f64 = 3.0;

/// Bytes of blocks that lie in parts, by block.
#[derive(Default)]
struct InParts(BTreeMap<usize, f64>);

impl InParts {
    fn add(&mut self, slot: &Slot, bytes: f64) {
        if let Some(block) = block_of(&slot.name) {
            *self.0.entry(block).or_default() += bytes;
        }
    }

    /// Bytes of other processes, less so many copies of the largest block.
    fn saved(&self, processes: usize, copies: f64) -> f64 {
        if processes == 1 {
            return 0.0;
        }
        let others = (processes - 1) as f64 / processes as f64;
        self.0.values().sum::<f64>() * others - copies * self.0.values().copied().fold(0.0, f64::max)
    }
}

/// Bytes of cuBLAS' workspace on the largest GPUs, and of cuBLASLt's.
const BLAS_WORKSPACE: f64 = ((32 << 20) + (4 << 20)) as f64;

/// Logits of a tile of the head on a GPU, at most.
const LOGITS_OF_TILE: usize = 1 << 25;

/// Bytes on a GPU beside those of the model: the head's tile of float32 logits and its gradient, and cuBLAS' workspaces.
fn device_scratch(spec: &DecoderSpec, shape: &TrainingShape<'_>) -> f64 {
    let logits = shape.completion_tokens.saturating_mul(spec.vocab_size).min(LOGITS_OF_TILE);
    8.0 * logits as f64 + BLAS_WORKSPACE
}

/// Storage of the matrices that are not trained.
#[derive(Debug, Clone, Copy)]
pub struct FrozenStorage<'a> {
    /// As requested.
    pub storage: &'a Storage,
    /// As the files have them.
    pub stored: StoredMatrices,
}

/// Matrices of a model as its files have them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoredMatrices {
    /// dtype of what is not packed.
    pub dtype: WeightDtype,
    /// Packed ones.
    pub packed: Packed,
}

/// Matrices that are stored in packed blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Packed {
    /// None.
    Nothing,
    /// Linear layers, in four bits.
    FourBit,
    /// Those of a GGUF file, so many bytes a value on average.
    Blocks(f64),
    /// Experts, in MXFP4.
    Mxfp4,
}

impl StoredMatrices {
    /// All in float32.
    pub const FLOAT32: Self = Self { dtype: WeightDtype::F32, packed: Packed::Nothing };

    /// True for the weight of an expert in MXFP4.
    fn is_mxfp4(&self, slot: &Slot) -> bool {
        self.packed == Packed::Mxfp4 && slot.role == Role::Weight && slot.name.contains(EXPERTS)
    }

    /// Bytes of `count` values of a matrix, in memory as in the files or `dequantised`.
    fn bytes(&self, slot: &Slot, count: f64, dequantised: bool) -> f64 {
        let packed = match self.packed {
            Packed::Blocks(each) => Some(each * count),
            Packed::FourBit if slot.role == Role::Weight && !is_head(slot.name.trim_end_matches(".weight")) => {
                Some(FourBitOptions::default().bytes(count))
            }
            Packed::Mxfp4 if self.is_mxfp4(slot) => Some(MXFP4_BITS / 8.0 * count),
            Packed::FourBit | Packed::Mxfp4 | Packed::Nothing => None,
        };
        match packed {
            Some(_) if dequantised => 4.0 * count,
            Some(bytes) => bytes,
            None => self.dtype.bytes() as f64 * count,
        }
    }
}

impl FrozenStorage<'_> {
    /// All in float32.
    pub const FLOAT32: Self = Self { storage: &Storage::AsStored, stored: StoredMatrices::FLOAT32 };

    /// Bytes of a frozen tensor, on the CPU or on a device in its dtype.
    fn bytes(&self, slot: &Slot, device: Option<WeightDtype>) -> Result<f64> {
        let count = slot.shape.iter().product::<usize>() as f64;
        let is_matrix = matches!(slot.role, Role::Embedding | Role::Weight | Role::Router);
        let quantised = if is_matrix { self.storage.quantises(slot)? } else { None };
        Ok(match (quantised, device) {
            (Some(options), _) if !self.stored.is_mxfp4(slot) => options.bytes(count),
            (_, Some(dtype)) if !self.stays_in_four_bit(slot) => dtype.bytes() as f64 * count,
            _ if is_matrix => self.stored.bytes(slot, count, *self.storage == Storage::Dequantised),
            _ => 4.0 * count,
        })
    }

    /// True for a matrix in four bits, which a device has a kernel for: it has none for other blocks.
    fn stays_in_four_bit(&self, slot: &Slot) -> bool {
        self.stored.packed == Packed::FourBit && slot.role == Role::Weight && *self.storage != Storage::Dequantised
    }

    /// Bytes of a model's weights, none of them trained, on the CPU or on a device in its dtype, with its blocks in parts in so
    /// many processes.
    ///
    /// # Errors
    /// When a module to skip is no valid pattern.
    pub fn total(&self, spec: &DecoderSpec, device: Option<WeightDtype>, processes: usize) -> Result<u64> {
        let (mut all, mut in_parts) = (0.0, InParts::default());
        for slot in &layout(spec) {
            let bytes = self.bytes(slot, device)?;
            all += bytes;
            in_parts.add(slot, bytes);
        }
        Ok((all - in_parts.saved(processes, GATHERED)) as u64)
    }
}

/// Bytes of AdamW's moments of a tensor.
fn moment_bytes(format: MomentFormat, count: usize, is_embedding: bool) -> f64 {
    let format = if is_embedding { MomentFormat::Single } else { format.of(count) };
    let each = match format {
        MomentFormat::Single => 8.0,
        MomentFormat::Bf16 => 4.0,
        // Two codes, and a scale for each 256.
        MomentFormat::EightBit => 2.0 + 8.0 / 256.0,
    };
    each * count as f64
}

/// Memory of training, in bytes, the program's own excepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Weights, adapters included.
    pub weights: u64,
    /// Gradients, one value per trained parameter.
    pub gradients: u64,
    /// AdamW's moments, two values per trained parameter, and its float32 copy of a parameter in 16 bits.
    pub optimizer: u64,
    /// Activations saved for the backward pass, and the backward pass's own tensors at its peak.
    pub activations: u64,
}

impl MemoryEstimate {
    /// The same model where prompts of so many tokens together are learned and no weight is: the embedding as float32, and five
    /// numbers for each place and token of the vocabulary (logits, noise, probabilities and two gradients).
    pub fn learn_prompts(&mut self, spec: &DecoderSpec, places: usize) {
        let floats = |count: usize| 4 * count as u64;
        self.gradients = floats(places * spec.hidden_size);
        self.optimizer = 2 * self.gradients;
        self.activations += floats(spec.vocab_size * (5 * places + spec.hidden_size));
    }

    /// Estimates from shapes.
    ///
    /// # Errors
    /// When a target of the adapters or a pattern names no layer.
    pub fn new(spec: &DecoderSpec, shape: &TrainingShape<'_>) -> Result<Self> {
        let slots = layout(spec);
        let count = |slot: &Slot| slot.shape.iter().product::<usize>();
        let adapters = match shape.lora {
            Some(config) => adapted(spec, config)?,
            None => Vec::new(),
        };
        // Sizes of the adapters' tensors.
        let added: Vec<usize> = match shape.lora {
            Some(config) => adapters
                .iter()
                .flat_map(|module| {
                    let magnitude = usize::from(config.dora) * module.outputs;
                    [module.rank * module.inputs, module.rank * module.outputs, magnitude]
                })
                .collect(),
            None => Vec::new(),
        };
        let named = match (shape.lora, shape.layers) {
            (_, []) => None,
            (adapters, patterns) => {
                let what = if adapters.is_some() { "modules_to_save" } else { "unfreeze_layers_patterns" };
                let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
                Some(NamedParameters::new(what, patterns, &names, spec.tied)?)
            }
        };
        let is_trained = |slot: &Slot| match &named {
            Some(named) => named.contain(&slot.name),
            None => shape.lora.is_none(),
        };
        // An adapter that starts as a part of its base leaves the rest of it in float32.
        let leaves_rest = |slot: &Slot| {
            shape.lora.is_some_and(|config| config.init.start().is_some())
                && adapters.iter().any(|adapter| slot.name.strip_suffix(".weight") == Some(&adapter.module))
        };
        let float = WeightDtype::F32.bytes() as f64;
        let own = shape.device.unwrap_or(WeightDtype::F32).bytes() as f64;
        let added_count: usize = added.iter().sum();
        let (mut weights, mut trained) = (own * added_count as f64, added_count);
        let mut moments: f64 = added.iter().map(|count| moment_bytes(shape.moments, *count, false)).sum();
        let (mut in_parts, mut gradients_in_parts) = (InParts::default(), InParts::default());
        for slot in &slots {
            if leaves_rest(slot) {
                weights += own * count(slot) as f64;
            } else if is_trained(slot) {
                let bytes = own * count(slot) as f64;
                weights += bytes;
                trained += count(slot);
                moments += moment_bytes(shape.moments, count(slot), slot.role == Role::Embedding);
                // What is trained beside frozen weights is whole in every process.
                if named.is_none() {
                    in_parts.add(slot, bytes);
                    gradients_in_parts.add(slot, float * count(slot) as f64);
                }
            } else {
                let bytes = shape.frozen.bytes(slot, shape.device)?;
                weights += bytes;
                in_parts.add(slot, bytes);
            }
        }
        weights -= in_parts.saved(shape.processes, GATHERED);
        let gradients = float * trained as f64 - gradients_in_parts.saved(shape.processes, REDUCED);
        let masters = if own < float { float * trained as f64 } else { 0.0 };
        let scratch = if shape.device.is_some() { device_scratch(spec, shape) } else { 0.0 };
        let activations = own * activations(spec, shape, &adapters) as f64 + scratch;
        Ok(Self {
            weights: weights as u64,
            gradients: gradients as u64,
            optimizer: (moments + masters) as u64,
            activations: activations as u64,
        })
    }

    /// Sum of the parts.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.activations
    }
}

struct AdaptedModule {
    module: String,
    /// Index of its block; `None` for the head.
    block: Option<usize>,
    /// True if it comes after attention.
    after_attention: bool,
    /// True in an expert, which has only a part of the tokens.
    expert: bool,
    inputs: usize,
    outputs: usize,
    rank: usize,
}

fn adapted(spec: &DecoderSpec, config: &LoraConfig) -> Result<Vec<AdaptedModule>> {
    let mut modules: Vec<(String, usize, usize)> = layout(spec)
        .into_iter()
        .filter(|slot| matches!(slot.role, Role::Weight | Role::Router))
        .map(|slot| (slot.name.trim_end_matches(".weight").to_string(), slot.shape[0], slot.shape[1]))
        .collect();
    if spec.tied {
        modules.push((HEAD.into(), spec.vocab_size, spec.hidden_size));
    }
    let names: Vec<&str> = modules.iter().map(|(name, ..)| name.as_str()).collect();
    let chosen = chosen_modules(&config.targets, &names)?;
    let adapted: Vec<&(String, usize, usize)> =
        modules.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(module, _)| module).collect();
    let names: Vec<String> = adapted.iter().map(|(name, ..)| name.clone()).collect();
    let layers = config.of_modules(&names)?;
    Ok(adapted
        .into_iter()
        .zip(layers)
        .map(|((name, outputs, inputs), layer)| AdaptedModule {
            module: name.clone(),
            rank: layer.r,
            block: name.split('.').find_map(|part| part.parse().ok()),
            expert: name.contains(EXPERTS),
            after_attention: !is_before_attention(name),
            inputs: *inputs,
            outputs: *outputs,
        })
        .collect())
}

/// True for a projection of a block's input.
fn is_before_attention(module: &str) -> bool {
    let attention = module.contains(".self_attn.") && !module.ends_with("o_proj");
    attention || DELTA_INPUTS.iter().any(|tail| module.ends_with(tail))
}

/// Number of values in memory at the peak of one forward and backward pass on a [`smpo_kernels::Tape`]: those saved up to
/// a block, and those of that block's backward pass.
fn activations(spec: &DecoderSpec, shape: &TrainingShape<'_>, adapters: &[AdaptedModule]) -> usize {
    let (tokens, rows, hidden) = (shape.tokens, shape.completion_tokens, spec.hidden_size);
    let (queries, keys, inner) = (spec.query_width(), spec.kv_width(), spec.intermediate_size);
    let last = spec.layers.len() - 1;
    // A's output. DoRA's plain tensor operations save the sum with the base and its rescaled copy too.
    let adapter = |module: &AdaptedModule| match shape.lora {
        Some(config) => module.rank + 2 * usize::from(config.dora) * module.outputs,
        None => 0,
    };
    let adapted = |index: usize, after_attention: bool| -> usize {
        let of = |expert: bool| -> usize {
            let here =
                |m: &&AdaptedModule| (m.block, m.after_attention, m.expert) == (Some(index), after_attention, expert);
            adapters.iter().filter(here).map(adapter).sum()
        };
        // A token passes through some of the experts.
        of(false) + spec.experts.as_ref().map_or(0, |experts| of(true) * experts.per_token / experts.count)
    };
    // The norm's input, without its inverse root mean squares; queries and keys, rotated, and before their own norms;
    // values; attention's output. Norms are recomputed in the backward pass.
    let qk_norm = if spec.qk_norm == QkNorm::None { 0 } else { queries + keys };
    // Rows without their mean; a layer's scaled output.
    let centred = hidden * usize::from(spec.norm_centred);
    let scaled = hidden * usize::from(spec.residual_scale.is_some());
    // Gates of attention's output.
    let gates = queries * usize::from(spec.gated_attention);
    let attention = |index: usize| {
        let mixed = match spec.delta_of(&spec.layers[index]) {
            None => qk_norm + gates + 2 * (queries + keys),
            // The convolution's input and output; the rule's output, and the gate of its norm.
            Some(delta) => 2 * delta.heads.row_width() + 2 * delta.heads.value_width() + 5 * delta.heads.value_heads,
        };
        hidden + centred + scaled + mixed + adapted(index, false)
    };
    // The norm's input, gate and up. Their product is recomputed in the backward pass.
    let after = [&spec.norms.after_attention, &spec.norms.after_feed_forward].into_iter().flatten().count();
    let post_norms = after * hidden;
    let feed_forward = |index: usize| {
        let layer = match spec.experts_of(&spec.layers[index]) {
            None => 2 * inner,
            // Probabilities; of each of the token's experts input, gate, up and output.
            Some(of) => of.count + of.per_token * (2 * hidden + 2 * of.intermediate_size),
        };
        hidden + layer + scaled + post_norms + adapted(index, true)
    };
    // Gradients of a fused projection's columns are concatenated beside them.
    let fused_heads = if spec.projections.fused_heads { queries + 2 * keys } else { 0 };
    let fused_gate = if spec.projections.feed_forward == FeedForward::Separate { 0 } else { 2 * inner };
    // Gradients of gate, up and their product, or the recomputed product; those of the stream.
    let feed_forward_backward = |index: usize| match spec.experts_of(&spec.layers[index]) {
        None => 3 * inner + 2 * hidden,
        // Gradients of the experts' outputs; those of one expert at a time are beside them.
        Some(of) => of.per_token * hidden + 3 * of.per_token * of.intermediate_size / of.count + 2 * hidden,
    };
    // Gradients of queries, keys, values and attention's output; those of the stream.
    let attention_backward = |index: usize| match spec.delta_of(&spec.layers[index]) {
        None => 2 * (queries + keys) + gates + 2 * hidden,
        Some(delta) => 2 * delta.heads.row_width() + delta.heads.value_width() + 2 * hidden,
    };
    // Freed gradients of the block above, kept for reuse.
    let spare = 3 * hidden + fused_heads + fused_gate;
    let embedding = tokens * hidden * usize::from(spec.embedding_scale.is_some());
    let angles = tokens * spec.head_dim * spec.ropes.len();
    // The inputs of the last norm and of the head, with the columns that an adapter appends.
    let head: usize = adapters.iter().filter(|m| m.block.is_none()).map(|module| hidden + 2 * module.rank).sum();
    let finish = rows * (2 * hidden + head);
    let rows_after = |index: usize| if index == last { rows } else { tokens };
    if shape.checkpointing {
        // One input per block except the first, and a block recomputed in halves, the second part by part.
        let inputs = last * tokens * hidden + rows * hidden;
        let part = |index: usize| match spec.layers[index].routed {
            true => tokens,
            false => crate::decoder::feed_forward_rows(inner, shape.device.is_some()).min(tokens),
        };
        let block = |index: usize| {
            // A parallel feed-forward layer's input goes beside the stream, in one tensor and in two.
            let beside = 3 * hidden * usize::from(spec.parallel);
            let kept = tokens * (attention(index) + hidden + beside);
            let second =
                part(index) * (feed_forward(index) + feed_forward_backward(index)) + 2 * rows_after(index) * hidden;
            kept + second.max(tokens * attention_backward(index))
        };
        return embedding + angles + inputs + (0..=last).map(block).max().unwrap_or(0).max(finish);
    }
    let mut held = embedding + angles;
    let mut peak = 0;
    for index in 0..=last {
        let after = rows_after(index);
        held += tokens * attention(index);
        peak = peak.max(held + tokens * (attention_backward(index) + spare));
        // The rows that the last block keeps are gathered.
        held +=
            after * feed_forward(index) + if index == last { rows * spec.mixed_width(&spec.layers[index]) } else { 0 };
        peak = peak.max(held + after * (feed_forward_backward(index) + spare));
    }
    peak.max(held + finish + rows * hidden)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::decoder::Decoder;

    fn case_dir(case: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
    }

    #[test]
    fn trained_parameters_have_a_gradient_and_two_moments() {
        let mut decoder = Decoder::load(case_dir("qwen3")).unwrap();
        let layers = ["down_proj".to_string(), "model.norm".to_string()];
        let shape = TrainingShape {
            tokens: 8,
            completion_tokens: 4,
            lora: None,
            layers: &[],
            checkpointing: false,
            frozen: FrozenStorage::FLOAT32,
            moments: MomentFormat::Single,
            device: None,
            processes: 1,
        };
        let estimate = |shape| MemoryEstimate::new(&decoder.spec().clone(), &shape).unwrap();
        let all = decoder.parameter_count() as u64;
        let whole = estimate(shape);
        assert_eq!((whole.weights, whole.gradients, whole.optimizer), (4 * all, 4 * all, 8 * all));
        // In 16 bits on a GPU: half the weights and activations, gradients and moments in float32, and a copy of what is trained.
        let half = estimate(TrainingShape { device: Some(WeightDtype::Bf16), ..shape });
        assert_eq!((half.weights, half.gradients, half.optimizer), (2 * all, 4 * all, 12 * all));
        let scratch = 8 * 4 * decoder.spec().vocab_size as u64 + (36 << 20);
        assert_eq!(half.activations, whole.activations / 2 + scratch);
        let single = estimate(TrainingShape { device: Some(WeightDtype::F32), ..shape });
        assert_eq!(single, MemoryEstimate { activations: whole.activations + scratch, ..whole });
        let part = estimate(TrainingShape { layers: &layers, ..shape });
        decoder.train_only(&layers).unwrap();
        let trained: usize = decoder.trainable().iter().map(|(_, v)| v.elem_count()).sum();
        assert_eq!((part.weights, part.gradients, part.optimizer), (4 * all, 4 * trained as u64, 8 * trained as u64));
    }

    #[test]
    fn a_device_holds_frozen_matrices_in_its_dtype_or_in_four_bits() {
        let spec = Decoder::load(case_dir("qwen3")).unwrap().spec().clone();
        let all: u64 = layout(&spec).iter().map(|slot| slot.shape.iter().product::<usize>() as u64).sum();
        let of = |packed, storage: &Storage, device| {
            FrozenStorage { storage, stored: StoredMatrices { dtype: WeightDtype::Bf16, packed } }
                .total(&spec, device, 1)
                .unwrap()
        };
        let bf16 = Some(WeightDtype::Bf16);
        assert_eq!(of(Packed::Nothing, &Storage::AsStored, bf16), 2 * all);
        assert_eq!(of(Packed::Nothing, &Storage::AsStored, Some(WeightDtype::F32)), 4 * all);
        // There is no kernel for the blocks of GGUF files: a device gets their values.
        assert_eq!(of(Packed::Blocks(0.56), &Storage::AsStored, bf16), 2 * all);
        let four_bit = Storage::FourBit(FourBitOptions::default());
        for (packed, storage) in [(Packed::Nothing, &four_bit), (Packed::FourBit, &Storage::AsStored)] {
            assert!(of(packed, storage, bf16) < 3 * all / 2, "{packed:?} {storage:?}");
        }
        assert_eq!(of(Packed::FourBit, &Storage::Dequantised, bf16), 2 * all);
    }

    #[test]
    fn frozen_matrices_are_estimated_as_they_lie_in_memory() {
        let dir = smpo_fixtures::golden("model", "bitsandbytes/base");
        let lora =
            LoraConfig { r: 8, alpha: 8.0, dora: true, targets: vec!["all-linear".into()], ..LoraConfig::default() };
        let storages = [
            Storage::AsStored,
            Storage::FourBit(FourBitOptions { double: true, ..FourBitOptions::default() }),
            Storage::FourBit(FourBitOptions { skip: vec!["down_proj".into()], ..FourBitOptions::default() }),
        ];
        for storage in storages {
            let mut decoder = Decoder::load_frozen(&dir, &crate::Placement::default(), &storage).unwrap();
            decoder.add_lora(&lora, 0).unwrap();
            let shape = TrainingShape {
                tokens: 8,
                completion_tokens: 4,
                lora: Some(&lora),
                layers: &[],
                checkpointing: false,
                frozen: FrozenStorage {
                    storage: &storage,
                    stored: StoredMatrices { dtype: WeightDtype::Bf16, packed: Packed::Nothing },
                },
                moments: MomentFormat::EightBit,
                device: None,
                processes: 1,
            };
            let estimate = MemoryEstimate::new(decoder.spec(), &shape).unwrap();
            let (got, expected) = (estimate.weights as f64, decoder.parameter_bytes() as f64);
            assert!((got - expected).abs() < 0.01 * expected, "{storage:?}: {got} and {expected}");
        }
    }
}
