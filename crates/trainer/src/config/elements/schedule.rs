//! Number of steps and learning-rate schedule.

use crate::config::builder::setters;
use crate::config::check::{Problems, is_positive};
use crate::config::{TrainConfig, TrainConfigBuilder};
use crate::schedule::{LearningRate, Schedule};

impl TrainConfigBuilder {
    setters! {
        num_train_epochs: f64,
        max_steps?: u64,
        lr_scheduler_type: Schedule,
        lr_decay_ratio: f64,
        min_lr_ratio: f64,
        warmup_steps?: u64,
        warmup_ratio?: f64,
    }
}

impl TrainConfig {
    /// Optimizer steps of an epoch over `rows` rows; the last one may be smaller.
    pub fn steps_per_epoch(&self, rows: usize) -> u64 {
        rows.div_ceil(self.batch_size()) as u64
    }

    /// Optimizer steps of the run over `rows` rows.
    pub fn total_steps(&self, rows: usize) -> u64 {
        self.total_steps_since(0, rows)
    }

    /// Optimizer steps of a run whose epochs over `rows` rows begin after `since` steps.
    pub(crate) fn total_steps_since(&self, since: u64, rows: usize) -> u64 {
        self.max_steps.unwrap_or_else(|| {
            let steps = self.steps_per_epoch(rows) as f64 * self.num_train_epochs;
            since + (steps.ceil() as u64).max(1)
        })
    }

    /// The learning rate of a run of `total_steps`.
    pub fn learning_rate(&self, total_steps: u64) -> LearningRate {
        let warmup_steps =
            self.warmup_steps.unwrap_or_else(|| (self.warmup_ratio.unwrap_or(0.0) * total_steps as f64).ceil() as u64);
        LearningRate {
            peak: self.learning_rate,
            schedule: self.lr_scheduler_type,
            decay_ratio: self.lr_decay_ratio,
            warmup_steps,
            total_steps,
            min_ratio: self.min_lr_ratio,
        }
    }

    pub(in crate::config) fn check_schedule(&self, problems: &mut Problems) {
        problems.range(
            "num_train_epochs",
            is_positive(self.num_train_epochs),
            "a positive number",
            self.num_train_epochs,
        );
        problems.range("max_steps", self.max_steps != Some(0), "at least 1", 0);
        for (name, ratio) in [("min_lr_ratio", self.min_lr_ratio), ("lr_decay_ratio", self.lr_decay_ratio)] {
            problems.range(name, (0.0..=1.0).contains(&ratio), "from 0 to 1", ratio);
        }
        if let Some(ratio) = self.warmup_ratio {
            problems.range("warmup_ratio", (0.0..=1.0).contains(&ratio), "from 0 to 1", ratio);
            problems.exclusive(("warmup_ratio", true), ("warmup_steps", self.warmup_steps.is_some()));
        }
    }
}

#[cfg(test)]
mod tests {
    use smpo_losses::Loss;

    use super::*;

    #[test]
    fn steps_count_a_partial_last_batch() {
        let builder =
            TrainConfig::builder(Loss::Smpo(Default::default())).model("m").output_dir("o").train_files(["d"]);
        let builder = builder.learning_rate(1e-4).per_device_train_batch_size(4).gradient_accumulation_steps(2);
        let config = builder.build().unwrap();
        assert_eq!(config.total_steps(17), 3);
        let config = TrainConfig { num_train_epochs: 1.2, ..config };
        assert_eq!(config.total_steps(17), 4);
    }
}
