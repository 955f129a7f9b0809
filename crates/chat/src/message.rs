//! One message of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Role: `system`, `user`, `assistant`, or another one of the template's.
    pub role: String,
    /// Text.
    #[serde(default)]
    pub content: String,
    /// False for an answer that was cut before its end: it has no terminator. No template is given it.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub finished: bool,
    /// False for an answer that is context only and never scored (`"train": false`). No template is given it.
    #[serde(rename = "train", default = "yes", skip_serializing_if = "is_true")]
    pub scored: bool,
    /// Further fields that templates read, as `transformers` passes them: `reasoning_content`, `tool_calls`,
    /// `tool_call_id`, `name`.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), finished: true, scored: true, fields: Map::new() }
    }

    /// A `system` message.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A `user` message.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// An `assistant` message.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// The same message with one more field for the template.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_string(), value.into());
        self
    }
}

/// Inputs of a template beside the messages; empty for a conversation of text alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateInputs {
    /// Tool schemas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// Documents for retrieval templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<Value>,
    /// Variables of this conversation, such as `enable_thinking`; they replace the run's.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
}

impl TemplateInputs {
    /// True if there is nothing beside the messages.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.documents.is_empty() && self.chat_template_kwargs.is_empty()
    }
}

fn yes() -> bool {
    true
}

fn is_true(flag: &bool) -> bool {
    *flag
}
