//! The rows to train on.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_data::{Columns, OnBadRows};

use crate::config::builder::setters;
use crate::config::check::{Problems, is_non_negative};
use crate::config::{TrainConfig, TrainConfigBuilder};

/// Consequence of errors that the data check finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataCheck {
    /// The run ends before it starts.
    #[default]
    Refuse,
    /// The errors are shown and the run continues.
    Report,
    /// Nothing is checked.
    Off,
}

impl TrainConfigBuilder {
    /// Sets [`TrainConfig::dataset`]: preference pairs, or instructions for `sft`.
    #[must_use]
    pub fn train_files(mut self, files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.config.dataset = files.into_iter().map(Into::into).collect();
        self.given("dataset");
        self
    }

    setters! {
        dataset_ratio[]: f64,
        dataset_columns[]: Columns,
        on_bad_rows: OnBadRows,
        token_cache?: into PathBuf,
        dataset_sample?: usize,
        data_check: DataCheck,
    }
}

impl TrainConfig {
    pub(in crate::config) fn check_data(&self, problems: &mut Problems) {
        problems.range("dataset", !self.dataset.is_empty(), "at least one file", "none");
        if !self.dataset_ratio.is_empty() {
            let (ratios, files) = (self.dataset_ratio.len(), self.dataset.len());
            if ratios != files {
                let message = format!("`dataset_ratio` must be one number per file ({files}), got {ratios}");
                problems.refuse(&["dataset_ratio", "dataset"], message);
            }
            for ratio in &self.dataset_ratio {
                problems.range("dataset_ratio", is_non_negative(*ratio), "0 or more", ratio);
            }
        }
        let files = || self.dataset.iter().chain(&self.eval_dataset);
        let named: Vec<&PathBuf> = self.dataset_columns.iter().flat_map(|columns| &columns.files).collect();
        for (at, file) in named.iter().enumerate() {
            if named[..at].contains(file) {
                let message = format!("`dataset_columns` has two tables for {}, expected one", file.display());
                problems.refuse(&["dataset_columns"], message);
            }
        }
        if self.dataset_columns.iter().filter(|columns| columns.files.is_empty()).count() > 1 {
            let message = "`dataset_columns` has two tables for all files, expected `files` in all but one".to_owned();
            problems.refuse(&["dataset_columns"], message);
        }
        for file in named {
            if !files().any(|known| known == file) {
                let message = format!(
                    "`dataset_columns.files` must be entries of dataset or eval_dataset, got {}",
                    file.display()
                );
                problems.refuse(&["dataset_columns", "dataset", "eval_dataset"], message);
            }
        }
        problems.range("dataset_sample", self.dataset_sample != Some(0), "at least 1", 0);
    }
}
