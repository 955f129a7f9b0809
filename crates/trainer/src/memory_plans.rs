//! Memory estimates of the usual ways to train a model, and of a configuration.

use std::path::Path;

use serde::Serialize;
use smpo_kernels::MomentFormat;
use smpo_model::{
    DecoderSpec, FourBitOptions, FrozenStorage, LoraConfig, MemoryEstimate, ModelError, ModelInfo, Packed, Storage,
    TrainingShape,
};

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::memory::MemoryPlan;
use crate::memory_budget::MemoryBudget;

/// One way to train, and its memory in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedPlan {
    /// `all weights`, `LoRA r 16`, `QLoRA r 16`, or the patterns of the trained parameters.
    pub training: String,
    /// Ranks of the run; the bytes are those of each.
    #[serde(skip_serializing_if = "is_one")]
    pub ranks: usize,
    /// `zero_stage`: 1 where the ranks share the moments, 3 where weights and gradients of blocks are in parts on them too.
    #[serde(skip_serializing_if = "is_zero")]
    pub zero_stage: u8,
    /// Activations are recomputed in the backward pass.
    pub gradient_checkpointing: bool,
    /// Tokens of a pack.
    pub tokens: usize,
    /// Completion tokens among them.
    pub completion_tokens: usize,
    /// Weights.
    pub weights_bytes: u64,
    /// Gradients.
    pub gradients_bytes: u64,
    /// AdamW's moments.
    pub optimizer_bytes: u64,
    /// Activations of a pack.
    pub activations_bytes: u64,
    /// Reference model beside the one that is trained (KTO).
    pub reference_bytes: u64,
    /// Sum.
    pub total_bytes: u64,
}

fn is_zero(stage: &u8) -> bool {
    *stage == 0
}

fn is_one(count: &usize) -> bool {
    *count == 1
}

/// All weights, with the moments on each of `ranks`, shared by them, and with the weights in parts on them; LoRA (the adapter at hand, or a rank in common use) on
/// the weights as they are stored, and on four bits. With and without checkpointing; half of the tokens are completions.
///
/// # Errors
/// A target of the adapter names no layer.
pub fn usual(
    info: &ModelInfo,
    adapter: Option<&LoraConfig>,
    tokens: usize,
    ranks: usize,
) -> Result<Vec<NamedPlan>, ModelError> {
    let four_bit = Storage::FourBit(FourBitOptions { double: true, ..FourBitOptions::default() });
    let lora = adapter.cloned().unwrap_or(LoraConfig {
        r: 16,
        alpha: 32.0,
        targets: vec!["all-linear".into()],
        ..LoraConfig::default()
    });
    let mut plans = Vec::new();
    for (lora, storage) in [(None, &Storage::AsStored), (Some(&lora), &Storage::AsStored), (Some(&lora), &four_bit)] {
        for checkpointing in [false, true] {
            let of = |zero_stage: u8| {
                let shape = TrainingShape {
                    tokens,
                    completion_tokens: tokens.div_ceil(2),
                    lora,
                    layers: &[],
                    checkpointing,
                    frozen: FrozenStorage { storage, stored: info.matrices },
                    moments: MomentFormat::Single,
                    device: None,
                    processes: if zero_stage == 3 { ranks } else { 1 },
                };
                plan(&info.spec, &shape, zero_stage, ranks)
            };
            let several = |stage: u8, of_use: bool| (ranks > 1 && of_use).then_some(stage);
            let in_parts =
                several(3, checkpointing && *storage == Storage::AsStored && info.matrices.packed == Packed::Nothing);
            for stage in [in_parts, several(1, lora.is_none()), Some(0)].into_iter().flatten() {
                plans.push(of(stage)?);
            }
        }
    }
    Ok(plans)
}

/// The largest pack of a training configuration on each of `ranks`, with all rows as long as it allows.
///
/// # Errors
/// The configuration is wrong, or names layers that the model does not have.
pub fn configured(spec: &DecoderSpec, path: &Path, ranks: usize) -> Result<NamedPlan, TrainError> {
    let config = TrainConfig::read(path, &[])?.config;
    let spec = match config.labels() {
        Some(labels) => DecoderSpec { labels: Some(labels.count()), tied: false, ..spec.clone() },
        None => spec.clone(),
    };
    let budget = MemoryBudget::of_choice(&config).shared_by(ranks);
    let plan = MemoryPlan::of_longest(&config, &spec, budget)?;
    let training = training(plan.lora.as_ref(), &config.unfreeze_layers_patterns, &config.storage());
    let plan = NamedPlan::new(training, config.gradient_checkpointing, &plan);
    Ok(NamedPlan { ranks, zero_stage: if ranks > 1 { config.zero_stage } else { 0 }, ..plan })
}

fn plan(spec: &DecoderSpec, shape: &TrainingShape<'_>, zero_stage: u8, ranks: usize) -> Result<NamedPlan, ModelError> {
    let mut estimate = MemoryEstimate::new(spec, shape)?;
    if zero_stage > 0 {
        estimate.optimizer = estimate.optimizer.div_ceil(ranks as u64);
    }
    let TrainingShape { tokens, completion_tokens, .. } = *shape;
    let plan =
        MemoryPlan { tokens, completion_tokens, lora: shape.lora.cloned(), estimate, reference: 0, teaches: false };
    let training = training(shape.lora, shape.layers, shape.frozen.storage);
    Ok(NamedPlan { ranks, zero_stage, ..NamedPlan::new(training, shape.checkpointing, &plan) })
}

fn training(lora: Option<&LoraConfig>, layers: &[String], storage: &Storage) -> String {
    let packed = if matches!(storage, Storage::FourBit(_)) { "Q" } else { "" };
    match (lora, layers) {
        (None, []) => "all weights".to_owned(),
        (None, patterns) => patterns.join(", "),
        (Some(lora), _) => format!("{packed}{} r {}", if lora.dora { "DoRA" } else { "LoRA" }, lora.r),
    }
}

impl NamedPlan {
    fn new(training: String, gradient_checkpointing: bool, plan: &MemoryPlan) -> Self {
        Self {
            training,
            ranks: 1,
            zero_stage: 0,
            gradient_checkpointing,
            tokens: plan.tokens,
            completion_tokens: plan.completion_tokens,
            weights_bytes: plan.estimate.weights,
            gradients_bytes: plan.estimate.gradients,
            optimizer_bytes: plan.estimate.optimizer,
            activations_bytes: plan.estimate.activations,
            reference_bytes: plan.reference,
            total_bytes: plan.total(),
        }
    }
}
