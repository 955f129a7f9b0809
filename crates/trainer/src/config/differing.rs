//! Differences between the configuration of a run and that of its resumption.

use std::collections::BTreeSet;

use super::TrainConfig;

/// Keys that cannot change the trained model: where and how a run is computed, written and watched.
const FREE: [&str; 13] = [
    "alarms",
    "data_check",
    "dequantize",
    "device",
    "max_skipped_steps",
    "memory_check",
    "output_dir",
    "report_to",
    "save_steps",
    "save_total_limit",
    "token_cache",
    "on_bad_rows",
    "zero_stage",
];

/// Keys that act through the rows, which are compared themselves.
const OF_ROWS: [&str; 6] =
    ["dataset", "dataset_columns", "dataset_ratio", "dataset_sample", "eval_dataset", "test_size"];

/// Keys of the number of steps, which may grow.
const LENGTHS: [&str; 2] = ["max_steps", "num_train_epochs"];

/// Keys of evaluation, which decide nothing unless checkpoints are compared.
const OF_EVALUATION: [&str; 2] = ["eval_steps", "per_device_eval_batch_size"];

/// Keys that differ between two configurations.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Keys that make another run.
    pub refused: Vec<String>,
    /// Keys of the number of steps.
    pub lengths: Vec<String>,
    /// Every other key, with both values.
    described: Vec<String>,
}

impl Changes {
    /// The changes that a run is resumed with, in words; `None` without any.
    pub fn describe(&self) -> Option<String> {
        (!self.described.is_empty()).then(|| self.described.join(", "))
    }
}

impl TrainConfig {
    /// The keys in which this configuration differs from that of an `earlier` part of the run.
    pub(crate) fn changes(&self, earlier: &Self) -> Changes {
        let table = |config: &Self| toml::Table::try_from(config).unwrap_or_default();
        let (now, before) = (table(self), table(earlier));
        let keys: BTreeSet<&String> = now.keys().chain(before.keys()).collect();
        let compares = self.load_best_model_at_end || self.early_stopping_patience.is_some();
        let mut changes = Changes::default();
        for key in keys.into_iter().filter(|key| now.get(*key) != before.get(*key)) {
            let name = key.as_str();
            let is = |list: &[&str]| list.contains(&name);
            if is(&LENGTHS) {
                changes.lengths.push(key.clone());
            } else if !is(&FREE) && !is(&OF_ROWS) && (compares || !is(&OF_EVALUATION)) {
                changes.refused.push(key.clone());
                continue;
            }
            let value = |table: &toml::Table| table.get(key).map_or("absent".to_owned(), ToString::to_string);
            if name != "device" {
                changes.described.push(format!("`{key}` {} (was {})", value(&now), value(&before)));
            }
        }
        changes
    }
}
