//! `[prompt]`: prompts of real tokens that are learned for a model whose weights stay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_data::TrainOn;
use smpo_devices::Choice;

use crate::config::builder::setters;
use crate::config::check::{Problems, is_non_negative, is_positive};
use crate::config::{Init, TrainConfig, TrainConfigBuilder};

/// Largest scale of the Gumbel noise, either way.
pub const MOST_NOISE: f64 = 0.2;

/// Losses that prompts are learned under: likelier answers of a language model, and a reward model's order of pairs.
const LOSSES: [&str; 2] = ["sft", "reward"];

/// Most numbers in the distributions of all places over the vocabulary's tokens are known with the model; a codebook alone is
/// refused above this many places.
const MOST_PLACES: usize = 1 << 16;

/// The message that a prompt becomes, or begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptRole {
    /// The system message, in place of a row's own.
    #[default]
    System,
    /// The beginning of the user's first message, before an empty line and the row's own text.
    User,
}

/// Prompts learned by straight-through Gumbel softmax, with the weights as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromptConfig {
    /// Prompts that are learned together.
    pub count: usize,
    /// Tokens of a prompt.
    pub length: usize,
    /// Text that the prompts start from, its last token repeated to `length`; tokens near the mean of all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// The message that a prompt becomes, or begins.
    pub role: PromptRole,
    /// Temperature of the distributions over tokens at the first step.
    pub temperature: f64,
    /// Temperature at the last step, reached along half a cosine.
    pub final_temperature: f64,
    /// Scale of the Gumbel noise at the first step; it is learned, within ±0.2. 0 turns it off.
    pub noise: f64,
    /// Weight of the likeness of the prompts to each other: the mean cosine of two prompts' mean vectors.
    pub dissimilarity: f64,
    /// Tokens that are never chosen, beside special tokens and parts of characters.
    pub forbidden_token_ids: Vec<u32>,
}

impl Default for PromptConfig {
    fn default() -> Self {
        PromptConfig {
            count: 1,
            length: 16,
            init: None,
            role: PromptRole::System,
            temperature: 1.0,
            final_temperature: 0.005,
            noise: 0.1,
            dissimilarity: 0.3,
            forbidden_token_ids: Vec::new(),
        }
    }
}

impl PromptRole {
    /// Name of the role in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
        }
    }
}

impl PromptConfig {
    fn check(&self, problems: &mut Problems) {
        problems.range("count", self.count > 0, "at least 1", self.count);
        problems.range("length", self.length > 0, "at least 1", self.length);
        let places = self.count.saturating_mul(self.length);
        problems.range("length", places <= MOST_PLACES, "at most 65536 tokens in all prompts together", places);
        for (name, temperature) in [("temperature", self.temperature), ("final_temperature", self.final_temperature)] {
            problems.range(name, is_positive(temperature), "a positive number", temperature);
        }
        let noise = (-MOST_NOISE..=MOST_NOISE).contains(&self.noise);
        problems.range("noise", noise, "from -0.2 to 0.2", self.noise);
        problems.range("dissimilarity", is_non_negative(self.dissimilarity), "0 or more", self.dissimilarity);
    }
}

impl TrainConfigBuilder {
    setters! {
        prompt?: PromptConfig,
    }
}

impl TrainConfig {
    pub(in crate::config) fn check_prompt(&self, problems: &mut Problems) {
        let Some(prompt) = &self.prompt else { return };
        problems.within("prompt", |problems| prompt.check(problems));
        let kind = self.loss.loss.kind();
        if !LOSSES.contains(&kind) {
            let message = format!("`prompt` is learned under a loss of kind {}, got {kind}", LOSSES.join(" or "));
            problems.refuse(&["loss", "prompt"], message);
        }
        let without_effect = [
            ("use_peft", self.use_peft),
            ("unfreeze_layers_patterns", !self.unfreeze_layers_patterns.is_empty()),
            ("added_tokens", !self.added_tokens.is_empty()),
            ("added_special_tokens", !self.added_special_tokens.is_empty()),
            ("probe", self.probe.is_some()),
            ("load_best_model_at_end", self.load_best_model_at_end),
            ("early_stopping_patience", self.early_stopping_patience.is_some()),
            ("token_cache", self.token_cache.is_some()),
            ("max_prompt_length", self.max_prompt_length.is_some()),
            ("report_to", !self.report_to.is_empty()),
        ];
        for (name, _) in without_effect.into_iter().filter(|(_, given)| *given) {
            problems.refuse(&[name, "prompt"], format!("`{name}` has no effect where prompts are learned: remove it"));
        }
        if self.init == Init::Random {
            let message = "`prompt` is learned for a model that is read: it excludes init = \"random\"".to_owned();
            problems.refuse(&["prompt", "init"], message);
        }
        if self.train_on == TrainOn::Everything {
            let message =
                "`prompt` excludes train_on = \"everything\": the prompt itself is no text to learn".to_owned();
            problems.refuse(&["train_on", "prompt"], message);
        }
        if !matches!(self.device, Choice::Auto | Choice::Cpu) {
            let message = format!("`prompt` is learned on the CPU: set device = \"cpu\", got {}", self.device);
            problems.refuse(&["device", "prompt"], message);
        }
    }
}
