//! `[probe]`: what the model being trained answers to prompts unlike its training data.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::range;

/// What happens when fewer completions end than at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDrop {
    /// The run ends; `model/` is the last checkpoint whose completions still ended. Every good probe is followed by a
    /// checkpoint.
    #[default]
    KeepLastGood,
    /// The run ends; `model/` is what there is then.
    Stop,
}

/// Completions of a small set of prompts unlike the training data, by the model being trained, while it is trained.
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
    /// Most tokens of a completion.
    #[serde(default = "defaults::max_new_tokens")]
    pub max_new_tokens: usize,
    /// 0 is greedy.
    #[serde(default)]
    pub temperature: f64,
    /// End the run when the share of completions that end falls by more than this below the share at step 0: 0.05 is 5
    /// points. Absent: it is only logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_eos_drop: Option<f64>,
    /// What ending the run means then.
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
    pub(super) fn check(&self) -> Result<(), String> {
        range("steps", self.steps > 0, "at least 1", 0)?;
        range("max_prompts", self.max_prompts > 0, "at least 1", 0)?;
        range("max_new_tokens", self.max_new_tokens > 0, "at least 1", 0)?;
        let temperature = self.temperature;
        range("temperature", temperature >= 0.0 && temperature.is_finite(), "0 (greedy) or more", temperature)?;
        match self.max_eos_drop {
            Some(drop) => range("max_eos_drop", (0.0..1.0).contains(&drop), "a share from 0 up to but not 1", drop),
            None => Ok(()),
        }
    }
}
