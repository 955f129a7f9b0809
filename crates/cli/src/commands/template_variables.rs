//! `--template-variable`: variables of the chat template.

use serde_json::{Map, Value};
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

/// Variables of the chat template, as `chat_template_kwargs` of a training configuration.
#[derive(Debug, Default, clap::Args)]
pub struct TemplateVariables {
    /// Variable of the chat template, such as enable_thinking=false: JSON or text; may be given several times
    #[arg(long = "template-variable", value_name = "NAME=VALUE", value_parser = variable)]
    given: Vec<(String, Value)>,
}

impl TemplateVariables {
    /// A tokenizer under these variables.
    ///
    /// # Errors
    /// When the template fails under them.
    pub fn apply(&self, tokenizer: ChatTokenizer) -> Result<ChatTokenizer, TokenizerError> {
        tokenizer.with_variables(&self.map())
    }

    /// The variables by name.
    pub fn map(&self) -> Map<String, Value> {
        self.given.iter().cloned().collect()
    }
}

fn variable(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            Ok((name.trim().to_owned(), value))
        }
        _ => Err(format!("expected NAME=VALUE, such as enable_thinking=false, got {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_json_or_text() {
        assert_eq!(variable("enable_thinking=false"), Ok(("enable_thinking".into(), Value::Bool(false))));
        assert_eq!(variable("date=1 May = spring"), Ok(("date".into(), Value::from("1 May = spring"))));
        assert!(variable("enable_thinking").unwrap_err().contains("NAME=VALUE"));
    }
}
