//! What follows from the keys: sizes of steps, their number, learning rates, what is compared.

use std::collections::BTreeSet;

use super::TrainConfig;
use crate::schedule::LearningRate;

impl TrainConfig {
    /// Pairs of an optimizer step.
    pub fn batch_size(&self) -> usize {
        self.per_device_train_batch_size * self.gradient_accumulation_steps
    }

    /// Optimizer steps of an epoch over `rows` rows; the last one may be smaller.
    pub fn steps_per_epoch(&self, rows: usize) -> u64 {
        rows.div_ceil(self.batch_size()) as u64
    }

    /// Optimizer steps of the run over `rows` rows.
    pub fn total_steps(&self, rows: usize) -> u64 {
        self.max_steps.unwrap_or_else(|| {
            let steps = self.steps_per_epoch(rows) as f64 * self.num_train_epochs;
            (steps.ceil() as u64).max(1)
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

    /// Rows of a micro-batch in evaluation.
    pub fn eval_batch_size(&self) -> usize {
        self.per_device_eval_batch_size.unwrap_or(self.per_device_train_batch_size)
    }

    /// The figure that tells which checkpoint is best, as `metrics.jsonl` spells it.
    pub fn best_metric(&self) -> String {
        match self.metric_for_best_model.as_deref() {
            None => "eval_loss".to_owned(),
            Some(name) if name.starts_with("eval_") || name.starts_with("probe/") => name.to_owned(),
            Some(name) => format!("eval_{name}"),
        }
    }

    /// Whether more of [`TrainConfig::best_metric`] is better.
    pub fn best_is_greatest(&self) -> bool {
        let name = self.best_metric();
        let falls = ["loss", "rewards/rejected", "logps/rejected", "loop_rate", "length"];
        self.greater_is_better.unwrap_or_else(|| !falls.iter().any(|end| name.ends_with(end)))
    }

    /// Whether rows are held out.
    pub fn evaluates(&self) -> bool {
        self.test_size.is_some() || !self.eval_dataset.is_empty()
    }

    /// The keys in which two configurations differ, but for the device: a run may go on on another machine.
    pub(crate) fn differing_keys(&self, other: &Self) -> Vec<String> {
        let table = |config: &Self| toml::Table::try_from(config).unwrap_or_default();
        let (mine, theirs) = (table(self), table(other));
        let keys: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        let differ = |key: &&String| key.as_str() != "device" && mine.get(*key) != theirs.get(*key);
        keys.into_iter().filter(differ).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn steps_count_a_partial_last_batch() {
        let text = "model_name_or_path = \"m\"\noutput_dir = \"o\"\ndataset = \"d\"\nlearning_rate = 1e-4\n\
                    per_device_train_batch_size = 4\ngradient_accumulation_steps = 2\n[loss]\nkind = \"smpo\"\n";
        let config = TrainConfig::parse(text, Path::new("run.toml"), &[]).unwrap();
        assert_eq!(config.total_steps(17), 3);
        let config = TrainConfig { num_train_epochs: 1.2, ..config };
        assert_eq!(config.total_steps(17), 4);
    }
}
