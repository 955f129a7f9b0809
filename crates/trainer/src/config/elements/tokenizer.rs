//! Conversations as the model is given them: chat template, special tokens, system message, answers that are learned.

use serde_json::Value;
use smpo_data::TrainOn;

use crate::config::builder::setters;
use crate::config::check::Problems;
use crate::config::{TrainConfig, TrainConfigBuilder};

impl TrainConfigBuilder {
    setters! {
        chat_template?: into String,
        force_chat_template: bool,
        eos_token?: into String,
        bos_token?: into String,
        pad_token?: into String,
        added_special_tokens[]: String,
        added_tokens[]: String,
        train_on: TrainOn,
        system_prompt?: into String,
        model_support_system_role: bool,
    }

    /// Adds a variable of the chat template to [`TrainConfig::chat_template_kwargs`](crate::TrainConfig::chat_template_kwargs).
    #[must_use]
    pub fn template_variable(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.config.chat_template_kwargs.insert(name.to_owned(), value.into());
        self
    }
}

impl TrainConfig {
    /// True if tokens are added to the vocabulary.
    pub(crate) fn adds_tokens(&self) -> bool {
        !self.added_special_tokens.is_empty() || !self.added_tokens.is_empty()
    }

    pub(in crate::config) fn check_tokenizer(&self, problems: &mut Problems) {
        for (name, tokens) in
            [("added_special_tokens", &self.added_special_tokens), ("added_tokens", &self.added_tokens)]
        {
            problems.range(name, tokens.iter().all(|token| !token.is_empty()), "texts", "an empty one");
        }
    }
}
