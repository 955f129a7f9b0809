//! `[probe]`: out-of-distribution prompts that the model being trained completes from time to time.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::TrainConfigBuilder;
use crate::config::builder::setters;
use crate::config::check::{Problems, is_non_negative};

/// Consequence of an EOS rate that fell too far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDrop {
    /// The run ends; `model/` is the last checkpoint whose EOS rate was within the bound. Every probe within the bound is
    /// followed by a checkpoint.
    #[default]
    KeepLastGood,
    /// The run ends; `model/` is the model of that step.
    Stop,
}

/// Completions of a small set of out-of-distribution prompts by the model that is being trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// JSON lines with `prompt` or `messages`, and optionally the gold answer in `reference`, as evaluation suites have.
    pub prompts: PathBuf,
    /// Steps between probes. Step 0 and the last are always probed.
    #[serde(default = "defaults::steps")]
    pub steps: u64,
    /// Prompts to use at most, drawn with the run's seed.
    #[serde(default = "defaults::max_prompts")]
    pub max_prompts: usize,
    /// Maximum number of tokens of a completion.
    #[serde(default = "defaults::max_new_tokens")]
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 is greedy.
    #[serde(default)]
    pub temperature: f64,
    /// End the run when the share of completions that end falls by more than this below the share at step 0: 0.05 is 5
    /// points. Absent: it is only logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_eos_drop: Option<f64>,
    /// The run's result in that case.
    #[serde(default)]
    pub on_drop: OnDrop,
}

mod defaults {
    pub fn steps() -> u64 {
        50
    }
    pub fn max_prompts() -> usize {
        64
    }
    pub fn max_new_tokens() -> usize {
        128
    }
}

impl ProbeConfig {
    /// A probe of the prompts in a file, every other key at its default.
    pub fn new(prompts: impl Into<PathBuf>) -> Self {
        ProbeConfig {
            prompts: prompts.into(),
            steps: defaults::steps(),
            max_prompts: defaults::max_prompts(),
            max_new_tokens: defaults::max_new_tokens(),
            temperature: 0.0,
            max_eos_drop: None,
            on_drop: OnDrop::default(),
        }
    }

    pub(in crate::config) fn check(&self, problems: &mut Problems) {
        problems.range("steps", self.steps > 0, "at least 1", 0);
        problems.range("max_prompts", self.max_prompts > 0, "at least 1", 0);
        problems.range("max_new_tokens", self.max_new_tokens > 0, "at least 1", 0);
        let temperature = self.temperature;
        problems.range("temperature", is_non_negative(temperature), "0 (greedy) or more", temperature);
        if let Some(drop) = self.max_eos_drop {
            problems.range("max_eos_drop", (0.0..1.0).contains(&drop), "a share from 0 up to but not 1", drop);
        }
    }
}

impl TrainConfigBuilder {
    setters! {
        probe?: ProbeConfig,
    }
}
