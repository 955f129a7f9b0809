//! Memory estimates of the usual ways to train a model, and of a configuration.

use std::path::Path;

use serde::Serialize;
use smpo_model::{DecoderSpec, LoraConfig, MemoryEstimate, ModelError, TrainingShape};

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::memory::MemoryPlan;

/// One way to train, and its memory in bytes, in float32.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedPlan {
    /// `all weights`, `LoRA r 16`, or the patterns of the trained parameters.
    pub training: String,
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

/// All weights and LoRA (the adapter at hand, or a rank in common use), with and without checkpointing; half of the
/// tokens are completions.
///
/// # Errors
/// A target of the adapter names no layer.
pub fn usual(spec: &DecoderSpec, adapter: Option<&LoraConfig>, tokens: usize) -> Result<Vec<NamedPlan>, ModelError> {
    let lora = adapter.cloned().unwrap_or(LoraConfig {
        r: 16,
        alpha: 32.0,
        dropout: 0.0,
        rslora: false,
        dora: false,
        targets: vec!["all-linear".into()],
    });
    let mut plans = Vec::new();
    for lora in [None, Some(&lora)] {
        for checkpointing in [false, true] {
            let completion_tokens = tokens.div_ceil(2);
            plans.push(plan(spec, &TrainingShape { tokens, completion_tokens, lora, layers: &[], checkpointing })?);
        }
    }
    Ok(plans)
}

/// The largest pack of a training configuration, with all rows as long as it allows.
///
/// # Errors
/// The configuration is wrong, or names layers that the model does not have.
pub fn configured(spec: &DecoderSpec, path: &Path) -> Result<NamedPlan, TrainError> {
    let config = TrainConfig::read(path, &[])?.config;
    let plan = MemoryPlan::of_longest(&config, spec)?;
    let layers = &config.unfreeze_layers_patterns;
    Ok(NamedPlan::new(plan.lora.as_ref(), layers, config.gradient_checkpointing, &plan))
}

fn plan(spec: &DecoderSpec, shape: &TrainingShape<'_>) -> Result<NamedPlan, ModelError> {
    let estimate = MemoryEstimate::new(spec, shape)?;
    let TrainingShape { tokens, completion_tokens, .. } = *shape;
    let plan = MemoryPlan { tokens, completion_tokens, lora: shape.lora.cloned(), estimate, reference: 0 };
    Ok(NamedPlan::new(shape.lora, shape.layers, shape.checkpointing, &plan))
}

impl NamedPlan {
    fn new(lora: Option<&LoraConfig>, layers: &[String], gradient_checkpointing: bool, plan: &MemoryPlan) -> Self {
        let training = match (lora, layers) {
            (None, []) => "all weights".to_string(),
            (None, patterns) => patterns.join(", "),
            (Some(lora), _) => format!("{} r {}", if lora.dora { "DoRA" } else { "LoRA" }, lora.r),
        };
        Self {
            training,
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
