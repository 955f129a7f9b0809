//! Constants of a run that every step needs.

use smpo_kernels::AdamWOptions;
use smpo_model::{DecoderSpec, ModelError};

use crate::config::TrainConfig;
use crate::memory;
use crate::memory_budget::MemoryBudget;

/// Constants of a run that every step needs.
#[derive(Debug, Clone, Copy)]
pub struct LearnerOptions {
    /// Optimizer.
    pub adamw: AdamWOptions,
    /// Rows of a micro-batch of the configuration, over which an objective may take quantiles.
    pub micro_batch: usize,
    /// Maximum tokens of a pack.
    pub max_tokens: usize,
    /// True to recompute each block in the backward pass.
    pub checkpointing: bool,
    /// Seed of the adapters' dropout, together with the step.
    pub seed: u64,
    /// Optimizer steps of the whole run; `None` evaluates every schedule of the objective at its end.
    pub steps: Option<u64>,
    /// Coefficient of the load-balancing loss of routed experts; 0 for none.
    pub balance: f64,
    /// Each rank keeps the moments of a part of the parameters (ZeRO stage 1).
    pub shards_moments: bool,
    /// `None` for a reference that stays what it is.
    pub reference_sync: Option<ReferenceSync>,
}

/// Course of a reference that follows the policy.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceSync {
    /// The policy's share in each update.
    pub share: f64,
    /// Optimizer steps between updates.
    pub steps: u64,
}

impl LearnerOptions {
    /// The options of a configuration for a model in the memory of `budget`, in a run of `steps` optimizer steps.
    ///
    /// # Errors
    /// When a target of the adapters or a pattern names no layer, or an adapter to start from cannot be read.
    pub fn of(
        config: &TrainConfig,
        spec: &DecoderSpec,
        budget: MemoryBudget,
        steps: Option<u64>,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            adamw: AdamWOptions {
                beta1: config.adam_beta1,
                beta2: config.adam_beta2,
                eps: config.adam_epsilon,
                weight_decay: config.weight_decay,
                max_grad_norm: (config.max_grad_norm > 0.0).then_some(config.max_grad_norm),
                moments: config.optim.moments(),
            },
            micro_batch: config.per_device_train_batch_size,
            max_tokens: memory::max_tokens(config, spec, budget)?,
            checkpointing: config.gradient_checkpointing,
            seed: config.seed,
            steps,
            shards_moments: config.zero_stage > 0,
            balance: config.balance_coefficient(spec),
            reference_sync: config
                .sync_ref_model
                .then_some(ReferenceSync { share: config.ref_model_mixup_alpha, steps: config.ref_model_sync_steps }),
        })
    }
}
