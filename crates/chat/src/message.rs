//! Messages, and conversations of them as templates get them.

use std::sync::LazyLock;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct Message {
    /// Role: `system`, `user`, `assistant`, or another one of the template's.
    pub role: String,
    /// Text.
    #[serde(default)]
    pub content: String,
    /// False for an answer that was cut before its end: it has no terminator. No template is given it.
    #[serde(default = "yes")]
    pub finished: bool,
    /// False for an answer that is context only and never scored (`"train": false`). No template is given it.
    #[serde(rename = "train", default = "yes")]
    pub scored: bool,
    /// Further fields that templates read, as `transformers` passes them: `reasoning_content`, `tool_calls`,
    /// `tool_call_id`, `name`. A `content` among them stands in place of the text: null beside tool calls, or parts.
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

impl Message {
    /// Fields of the reasoning before an answer; the first one that is there counts.
    pub const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

    /// Its thoughts before the answer.
    pub fn reasoning(&self) -> Option<&str> {
        Self::REASONING.iter().find_map(|name| self.fields.get(*name)).and_then(Value::as_str)
    }

    /// Bytes of all its texts, about.
    pub(crate) fn size(&self) -> usize {
        self.content.len() + size_of_all(&self.fields)
    }
}

/// As one JSON object, as rows hold it.
impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", &self.role)?;
        if !self.fields.contains_key("content") {
            map.serialize_entry("content", &self.content)?;
        }
        for (flag, name) in [(self.finished, "finished"), (self.scored, "train")] {
            if !flag {
                map.serialize_entry(name, &false)?;
            }
        }
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A message as `transformers` passes it to a template: the reasoning under each of the names that templates read, and no
/// other key that is null.
pub(crate) struct AsPassed<'a>(pub &'a Message);

impl Serialize for AsPassed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(Message { role, content, fields, .. }) = self;
        let mut map = serializer.serialize_map(None)?;
        let reasoning = Message::REASONING.iter().find_map(|name| fields.get(*name)).filter(|value| !value.is_null());
        if let Some(reasoning) = reasoning
            && fields.get("thinking").is_none_or(Value::is_null)
        {
            map.serialize_entry("thinking", reasoning)?;
        }
        map.serialize_entry("role", role)?;
        match fields.get("content") {
            Some(given) => map.serialize_entry("content", given)?,
            None => map.serialize_entry("content", content)?,
        }
        for (name, value) in fields {
            if !value.is_null() && name != "content" && name != Message::REASONING[0] {
                map.serialize_entry(name, value)?;
            }
        }
        if let Some(reasoning) = reasoning {
            map.serialize_entry(Message::REASONING[0], reasoning)?;
        }
        map.end()
    }
}

/// The messages of a conversation, with the inputs of a template beside them.
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'a> {
    /// The messages.
    pub messages: &'a [Message],
    /// Tools, documents and variables.
    pub inputs: &'a TemplateInputs,
}

/// Messages without anything beside them.
impl<'a, M: AsRef<[Message]> + ?Sized> From<&'a M> for Conversation<'a> {
    fn from(messages: &'a M) -> Self {
        static NONE: LazyLock<TemplateInputs> = LazyLock::new(TemplateInputs::default);
        Self { messages: messages.as_ref(), inputs: &NONE }
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

    /// Bytes of all texts in it, about.
    pub(crate) fn size(&self) -> usize {
        let lists = [&self.tools, &self.documents].into_iter().flatten().map(size_of).sum::<usize>();
        lists + size_of_all(&self.chat_template_kwargs)
    }
}

fn yes() -> bool {
    true
}

fn size_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of).sum(),
        Value::Object(map) => size_of_all(map),
        _ => 8,
    }
}

fn size_of_all(map: &Map<String, Value>) -> usize {
    map.iter().map(|(key, item)| key.len() + size_of(item)).sum()
}
