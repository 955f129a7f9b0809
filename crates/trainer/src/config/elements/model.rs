//! The model to train and the run's directory.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::builder::setters;
use crate::config::check::{Problems, is_positive};
use crate::config::{TrainConfig, TrainConfigBuilder};

/// Initial weights of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// The model directory's weights.
    #[default]
    Pretrained,
    /// Random weights from `seed`: only configuration and tokenizer are read from the model directory.
    Random,
}

impl TrainConfigBuilder {
    /// Sets [`TrainConfig::model_name_or_path`].
    #[must_use]
    pub fn model(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config.model_name_or_path = dir.into();
        self.given("model_name_or_path");
        self
    }

    /// Sets [`TrainConfig::output_dir`].
    #[must_use]
    pub fn output_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config.output_dir = dir.into();
        self.given("output_dir");
        self
    }

    setters! {
        init: Init,
        embedding_std?: f64,
        seed: u64,
    }
}

impl TrainConfig {
    pub(in crate::config) fn check_model(&self, problems: &mut Problems) {
        if let Some(std) = self.embedding_std {
            problems.range("embedding_std", is_positive(std), "a positive number", std);
            if self.init != Init::Random {
                problems.refuse(&["embedding_std", "init"], "`embedding_std` needs init = \"random\"".to_owned());
            }
        }
    }
}
