//! Prompts to sample from: a suite, or a plain file whose rows may bring more than a prompt.
//!
//! | field of a row | |
//! |---|---|
//! | those of [`smpo_eval::prompts`] | `id`, `prompt` or `messages`, `correct_answer`, `response_format`… |
//! | `system_prompt` | system message of this prompt; replaces the one given for all |
//! | `follow_up_prompt` | a second question, asked after the answer to the first |
//!
//! effective_llm_alignment calls such a file a basket.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};
use smpo_chat::{Message, json_kind};
use smpo_eval::prompts::{PromptRow, Strictness, read_rows};
use smpo_eval::{InputError, Prompt, Suite, is_shipped_name};

/// Prompts, how to sample them, and what else their rows hold.
#[derive(Debug, Clone)]
pub struct Basket {
    /// Prompts and sampler.
    pub suite: Suite,
    /// Rows by the id of their prompt; none for a suite in TOML.
    entries: HashMap<String, Entry>,
    /// Places of the prompts by id.
    places: HashMap<String, usize>,
}

/// A row without its prompt.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// The second question.
    pub follow_up: Option<String>,
    /// All fields of the row.
    pub row: Map<String, Value>,
}

impl Basket {
    /// Reads a suite (`.toml`) or a plain file of prompts; `system_prompt` goes before conversations that have none.
    ///
    /// # Errors
    /// [`InputError`], with the line: no prompt, no id, an id twice, a field of another type.
    pub fn read(path: &Path, system_prompt: Option<&str>) -> Result<Basket, InputError> {
        let is_suite = is_shipped_name(path) || path.extension().is_some_and(|ending| ending == "toml");
        let mut basket =
            if is_suite { Basket::new(Suite::read(path)?, HashMap::new()) } else { Basket::read_plain(path)? };
        if let Some(system) = system_prompt {
            for prompt in &mut basket.suite.prompts {
                if prompt.messages.first().is_none_or(|first| first.role != "system") {
                    prompt.messages.insert(0, Message::system(system));
                }
            }
        }
        Ok(basket)
    }

    fn new(suite: Suite, entries: HashMap<String, Entry>) -> Self {
        let places = suite.prompts.iter().enumerate().map(|(place, prompt)| (prompt.id.clone(), place)).collect();
        Basket { suite, entries, places }
    }

    fn read_plain(path: &Path) -> Result<Basket, InputError> {
        let mut prompts = Vec::new();
        let mut entries = HashMap::new();
        for PromptRow { line, prompt, row } in read_rows(path, Strictness::Plain)? {
            let follow_up = match row.get("follow_up_prompt") {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
                Some(other) => {
                    let problem = format!("`follow_up_prompt`: expected a string, got {}", json_kind(other));
                    return Err(InputError::line(path, line, problem));
                }
            };
            entries.insert(prompt.id.clone(), Entry { follow_up, row });
            prompts.push(prompt);
        }
        if prompts.is_empty() {
            return Err(InputError::line(path, 1, "expected at least one prompt, got none"));
        }
        Ok(Basket::new(Suite::plain(path, prompts), entries))
    }

    /// A prompt by its id.
    pub fn prompt(&self, id: &str) -> Option<&Prompt> {
        self.places.get(id).and_then(|place| self.suite.prompts.get(*place))
    }

    /// The rest of a prompt's row.
    pub fn entry(&self, prompt_id: &str) -> Option<&Entry> {
        self.entries.get(prompt_id)
    }

    /// The first prompt whose row asks for a `response_format`, which servers alone understand.
    pub fn first_with_response_format(&self) -> Option<&str> {
        self.suite.prompts.iter().find(|prompt| !prompt.extra_body.is_empty()).map(|prompt| prompt.id.as_str())
    }
}
