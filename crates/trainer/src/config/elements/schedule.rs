//! Number of steps and learning-rate schedule.

use crate::config::builder::setters;
use crate::config::check::{Problems, is_positive};
use crate::config::{TrainConfig, TrainConfigBuilder, defaults};
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
        self.check_decay(problems);
    }

    /// Settings of a decay, for a schedule without one.
    fn check_decay(&self, problems: &mut Problems) {
        let schedule = self.lr_scheduler_type;
        if self.min_lr_ratio != 0.0 && schedule == Schedule::Constant {
            let message = "`min_lr_ratio` has no effect with lr_scheduler_type = \"constant\", which does not decay";
            problems.refuse(&["min_lr_ratio", "lr_scheduler_type"], message.to_owned());
        }
        if self.lr_decay_ratio != defaults::lr_decay_ratio() && schedule != Schedule::WarmupStableDecay {
            let message = "`lr_decay_ratio` has no effect without lr_scheduler_type = \"warmup_stable_decay\"";
            problems.refuse(&["lr_decay_ratio", "lr_scheduler_type"], message.to_owned());
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

    fn refusal(with: impl FnOnce(TrainConfigBuilder) -> TrainConfigBuilder) -> Option<String> {
        let builder = TrainConfig::builder(Loss::Smpo(Default::default())).model("m").output_dir("o");
        with(builder.train_files(["d"]).learning_rate(1e-4)).build().err().map(|errors| errors.to_string())
    }

    #[test]
    fn settings_of_a_decay_are_refused_where_there_is_none() {
        let constant = refusal(|config| config.lr_scheduler_type(Schedule::Constant).min_lr_ratio(0.1)).unwrap();
        assert!(constant.contains("`min_lr_ratio` has no effect with lr_scheduler_type = \"constant\""), "{constant}");
        let cosine = refusal(|config| config.lr_decay_ratio(0.5)).unwrap();
        assert!(cosine.contains("`lr_decay_ratio` has no effect without"), "{cosine}");
        assert_eq!(refusal(|config| config.lr_scheduler_type(Schedule::Constant).min_lr_ratio(0.0)), None);
        assert_eq!(refusal(|config| config.lr_decay_ratio(0.2).min_lr_ratio(0.1)), None, "the default, given");
        let stable = |config: TrainConfigBuilder| config.lr_scheduler_type(Schedule::WarmupStableDecay);
        assert_eq!(refusal(|config| stable(config).lr_decay_ratio(0.5).min_lr_ratio(0.1)), None);
    }
}
