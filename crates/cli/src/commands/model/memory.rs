//! What training a model would take of memory.

use std::path::Path;

use serde::Serialize;
use smpo_model::{DecoderSpec, LoraConfig, MemoryEstimate, TrainingShape};
use smpo_trainer::{MemoryPlan, TrainConfig};

use crate::exit::{Failure, OrFail};

/// One way to train, and the bytes it takes in float32.
#[derive(Serialize)]
pub struct Plan {
    /// What is trained.
    pub training: String,
    pub gradient_checkpointing: bool,
    /// Tokens of a pack, and how many of them are completion tokens.
    pub tokens: usize,
    pub completion_tokens: usize,
    pub weights_bytes: u64,
    pub gradients_bytes: u64,
    pub optimizer_bytes: u64,
    pub activations_bytes: u64,
    /// A second model kept beside the one that is trained (KTO).
    pub reference_bytes: u64,
    pub total_bytes: u64,
}

/// All weights and LoRA (the adapter at hand, or a rank in common use), with and without checkpointing; half of the
/// tokens are completions.
pub fn usual(spec: &DecoderSpec, adapter: Option<&LoraConfig>, tokens: usize) -> Result<Vec<Plan>, Failure> {
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

/// The largest pack of a training configuration, all of whose rows are as long as it allows.
pub fn configured(spec: &DecoderSpec, path: &Path) -> Result<Plan, Failure> {
    let config = TrainConfig::read(path, &[]).or_user_error()?.config;
    let plan = MemoryPlan::of_longest(&config, spec)?;
    let layers = &config.unfreeze_layers_patterns;
    Ok(Plan::new(plan.lora.as_ref(), layers, config.gradient_checkpointing, &plan))
}

fn plan(spec: &DecoderSpec, shape: &TrainingShape<'_>) -> Result<Plan, Failure> {
    let estimate = MemoryEstimate::new(spec, shape)?;
    let TrainingShape { tokens, completion_tokens, .. } = *shape;
    let plan = MemoryPlan { tokens, completion_tokens, lora: shape.lora.cloned(), estimate, reference: 0 };
    Ok(Plan::new(shape.lora, shape.layers, shape.checkpointing, &plan))
}

impl Plan {
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
