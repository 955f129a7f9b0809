//! Conversations as the model is given them: chat template, special tokens, system message, answers that are learned.

use std::fs;

use serde_json::Value;
use smpo_data::TrainOn;
use smpo_tokenizer::ChatTokenizer;

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

    /// Remarks on settings of the chat template that this run's tokenizer does not follow. They are no errors: published files
    /// of effective_llm_alignment have them.
    pub fn template_remarks(&self, tokenizer: &ChatTokenizer) -> Vec<String> {
        match &self.chat_template {
            None if self.force_chat_template => {
                vec![
                    "`force_chat_template` has no effect without `chat_template`: the model's own template is used"
                        .to_owned(),
                ]
            }
            // A model without a template has the given one by now, and so has one whose own is the same.
            Some(given) if !self.force_chat_template && !is_text_of(given, tokenizer.template().source()) => {
                vec![
                    "`chat_template` is not used: the model has a template of its own; set force_chat_template = true to \
                     train with the one given"
                        .to_owned(),
                ]
            }
            _ => Vec::new(),
        }
    }

    pub(in crate::config) fn check_tokenizer(&self, problems: &mut Problems) {
        for (name, tokens) in
            [("added_special_tokens", &self.added_special_tokens), ("added_tokens", &self.added_tokens)]
        {
            problems.range(name, tokens.iter().all(|token| !token.is_empty()), "texts", "an empty one");
        }
    }
}

/// True if `given`, a template or the path of one, is `text`.
fn is_text_of(given: &str, text: &str) -> bool {
    let is_path = given.trim_end().ends_with(".jinja");
    given == text || (is_path && fs::read_to_string(given).is_ok_and(|read| read == text))
}

#[cfg(test)]
mod tests {
    use smpo_fixtures::demo;
    use smpo_losses::Loss;

    use super::*;

    fn remarks(with: impl FnOnce(TrainConfigBuilder) -> TrainConfigBuilder) -> Vec<String> {
        let builder = TrainConfig::builder(Loss::Smpo(Default::default())).model(demo("base")).output_dir("o");
        let config = with(builder.train_files(["d"]).learning_rate(1e-4)).build().unwrap();
        config.template_remarks(&ChatTokenizer::from_model_dir(demo("base")).unwrap())
    }

    #[test]
    fn a_template_that_is_not_used_is_remarked_on() {
        assert_eq!(remarks(|config| config), [""; 0]);
        let unused = remarks(|config| config.chat_template("{{ messages }}"));
        assert!(unused[0].starts_with("`chat_template` is not used"), "{unused:?}");
        let unread = remarks(|config| config.chat_template("no/such/file.jinja"));
        assert_eq!(unread, unused, "a file that is not used need not be there");
        let alone = remarks(|config| config.force_chat_template(true));
        assert!(alone[0].starts_with("`force_chat_template` has no effect without `chat_template`"), "{alone:?}");
        assert_eq!(remarks(|config| config.chat_template("{{ messages }}").force_chat_template(true)), [""; 0]);
    }

    #[test]
    fn the_model_s_own_template_given_again_is_used() {
        let own = ChatTokenizer::from_model_dir(demo("base")).unwrap().template().source().to_owned();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.jinja");
        fs::write(&path, &own).unwrap();
        assert_eq!(remarks(|config| config.chat_template(own)), [""; 0]);
        assert_eq!(remarks(|config| config.chat_template(path.display().to_string())), [""; 0]);
    }
}
