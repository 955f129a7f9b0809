//! What training a model would take of memory.

use std::path::Path;

use serde::Serialize;
use smpo_losses::Loss;
use smpo_model::{AdapterInfo, DecoderSpec, LoraConfig, MemoryEstimate, TrainingShape};
use smpo_trainer::TrainConfig;
use smpo_trainer::config::AdapterStart;

use crate::exit::{Blame, Failure, blame_model};

/// One way to train, and the bytes it takes in float32.
#[derive(Serialize)]
pub struct Plan {
    /// What is trained.
    pub training: String,
    pub gradient_checkpointing: bool,
    /// Tokens of a micro-batch, and how many of them are completion tokens.
    pub tokens: usize,
    pub completion_tokens: usize,
    pub weights_bytes: u64,
    pub gradients_bytes: u64,
    pub optimizer_bytes: u64,
    pub activations_bytes: u64,
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

/// The micro-batch of a training configuration, all of whose rows are as long as it allows.
pub fn configured(spec: &DecoderSpec, path: &Path) -> Result<Plan, Failure> {
    let config = TrainConfig::read(path, &[]).usage()?.config;
    let prompt = config.max_prompt_length.unwrap_or(config.max_length / 2).min(config.max_length);
    let sides = match config.loss.loss {
        Loss::Sft(_) | Loss::Kto(_) => 1,
        _ => 2,
    };
    let rows = config.per_device_train_batch_size;
    let completion_tokens = rows * sides * (config.max_length - prompt);
    let lora = match config.adapter() {
        None => None,
        Some(AdapterStart::Fresh(lora)) => Some(lora),
        Some(AdapterStart::From(dir)) => Some(AdapterInfo::read(dir).map_err(blame_model)?.config),
    };
    let shape = TrainingShape {
        tokens: rows * prompt + completion_tokens,
        completion_tokens,
        lora: lora.as_ref(),
        layers: &config.unfreeze_layers_patterns,
        checkpointing: config.gradient_checkpointing,
    };
    plan(spec, &shape)
}

fn plan(spec: &DecoderSpec, shape: &TrainingShape<'_>) -> Result<Plan, Failure> {
    let estimate = MemoryEstimate::new(spec, shape).map_err(blame_model)?;
    let training = match (shape.lora, shape.layers) {
        (None, []) => "all weights".to_string(),
        (None, patterns) => patterns.join(", "),
        (Some(lora), _) => format!("{} r {}", if lora.dora { "DoRA" } else { "LoRA" }, lora.r),
    };
    Ok(Plan {
        training,
        gradient_checkpointing: shape.checkpointing,
        tokens: shape.tokens,
        completion_tokens: shape.completion_tokens,
        weights_bytes: estimate.weights,
        gradients_bytes: estimate.gradients,
        optimizer_bytes: estimate.optimizer,
        activations_bytes: estimate.activations,
        total_bytes: estimate.total(),
    })
}
