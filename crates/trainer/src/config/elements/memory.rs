//! Sizes of a step and of a pack, and the memory that they take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::builder::setters;
use crate::config::check::Problems;
use crate::config::{TrainConfig, TrainConfigBuilder};

/// Most rows of an optimizer step: what takes so many is a mistake.
const MAX_BATCH: usize = 1 << 32;

/// Consequence of an estimate that exceeds the free memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryCheck {
    /// The run ends before it starts.
    #[default]
    Refuse,
    /// Nothing is estimated.
    Off,
}

impl TrainConfigBuilder {
    setters! {
        per_device_train_batch_size: usize,
        gradient_accumulation_steps: usize,
        max_tokens_per_pack?: usize,
        gradient_checkpointing: bool,
        memory_check: MemoryCheck,
    }
}

impl TrainConfig {
    /// Pairs (or examples) of an optimizer step.
    pub fn batch_size(&self) -> usize {
        self.per_device_train_batch_size.saturating_mul(self.gradient_accumulation_steps)
    }

    pub(in crate::config) fn check_memory(&self, problems: &mut Problems) {
        problems.range("per_device_train_batch_size", self.per_device_train_batch_size > 0, "at least 1", 0);
        problems.range("gradient_accumulation_steps", self.gradient_accumulation_steps > 0, "at least 1", 0);
        let rows = self.per_device_train_batch_size.checked_mul(self.gradient_accumulation_steps);
        if rows.is_none_or(|rows| rows > MAX_BATCH) {
            let message = format!(
                "`per_device_train_batch_size` × `gradient_accumulation_steps` must be at most {MAX_BATCH} rows, got {} × {}",
                self.per_device_train_batch_size, self.gradient_accumulation_steps
            );
            problems.refuse(&["per_device_train_batch_size", "gradient_accumulation_steps"], message);
        }
        problems.range("max_tokens_per_pack", self.max_tokens_per_pack != Some(0), "at least 1", 0);
    }
}
