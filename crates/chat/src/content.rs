//! The text of a message, however an API writes it.

use serde_json::{Map, Value};

use crate::json_kind;

/// Fields of a message beside its content that hold reasoning, by preference: DeepSeek, vLLM and SGLang; OpenRouter and
/// newer vLLM; Ollama; Arena-Hard.
const REASONING: [&str; 4] = ["reasoning_content", "reasoning", "thinking", "thought"];

/// Fields of an object in the place of a text, by rising preference; Gemini's `parts` are those of a content.
const TEXT: [&str; 6] = ["parts", "text", "content", "value", "answer", "generated_text"];

/// Other fields of a message that say what the model wrote.
const WRITTEN: [&str; 5] = ["type", "reasoning_details", "tool_calls", "function_call", "refusal"];

/// Text that a model wrote, reasoning apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The visible text. Tool calls are in it as `name(arguments)`, refusals as they are: the model wrote them.
    pub text: String,
    /// Reasoning, in the order it was written.
    pub reasoning: Option<String>,
}

impl Content {
    /// True for an object with any field of a message or of a part of one.
    pub fn is_message(fields: &Map<String, Value>) -> bool {
        let known = TEXT.iter().chain(&REASONING).chain(&WRITTEN);
        known.into_iter().any(|name| fields.contains_key(*name))
    }

    /// A whole message, choice or turn: its content under any usual name, reasoning fields, tool calls, a refusal.
    ///
    /// # Errors
    /// A message about a value that is no text.
    pub fn of_message(message: &Map<String, Value>) -> Result<Self, String> {
        let given = |name: &str| message.get(name).filter(|value| !value.is_null());
        let mut content = match TEXT.iter().rev().find_map(|name| given(name).map(|value| (name, value))) {
            Some((name, value)) => Content::of_value(value).map_err(|problem| format!("`{name}`: {problem}"))?,
            None => Content::default(),
        };
        match REASONING.iter().find_map(|name| given(name).and_then(Value::as_str)) {
            Some(reasoning) => content.think(reasoning),
            None => {
                for part in given("reasoning_details").and_then(Value::as_array).into_iter().flatten() {
                    content.add(part)?;
                }
            }
        }
        for call in given("tool_calls").and_then(Value::as_array).into_iter().flatten().chain(given("function_call")) {
            if let Some(call) = call.get("function").unwrap_or(call).as_object() {
                content.call(call);
            }
        }
        if content.text.is_empty()
            && let Some(refusal) = given("refusal").and_then(Value::as_str)
        {
            refusal.clone_into(&mut content.text);
        }
        Ok(content)
    }

    /// Content alone: a text, a list of parts, null.
    ///
    /// # Errors
    /// A message that names the type expected and the one found.
    pub fn of_value(value: &Value) -> Result<Self, String> {
        let mut content = Content::default();
        match value {
            Value::Array(parts) => parts.iter().try_for_each(|part| content.add(part))?,
            Value::Object(message) if !message.contains_key("type") => return Content::of_message(message),
            other => content.add(other)?,
        }
        Ok(content)
    }

    fn think(&mut self, text: &str) {
        if !text.is_empty() {
            self.reasoning.get_or_insert_default().push_str(text);
        }
    }

    /// A call as text. Arguments are kept as the model wrote them where they are a text.
    fn call(&mut self, call: &Map<String, Value>) {
        let name = call.get("name").and_then(Value::as_str).unwrap_or_default();
        let arguments = ["arguments", "input", "args"].iter().find_map(|field| call.get(*field));
        let arguments = match arguments {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let separator = if self.text.is_empty() { "" } else { "\n" };
        self.text.push_str(&format!("{separator}{name}({arguments})"));
    }

    /// One part of a content. Parts without text, such as images, add nothing.
    fn add(&mut self, part: &Value) -> Result<(), String> {
        let part = match part {
            Value::Null => return Ok(()),
            Value::String(text) => {
                self.text.push_str(text);
                return Ok(());
            }
            Value::Object(part) => part,
            other => return Err(format!("expected a text or a list of parts, got {}", json_kind(other))),
        };
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
        if kind.contains("thinking") || kind.contains("reasoning") {
            for name in ["thinking", "reasoning", "text", "summary", "content"] {
                let inner = part.get(name).map(Content::of_value).transpose()?.unwrap_or_default();
                let text = [inner.text, inner.reasoning.unwrap_or_default()].concat();
                if !text.is_empty() {
                    self.think(&text);
                    break;
                }
            }
        } else if let Some(Value::Object(call)) = part.get("functionCall") {
            self.call(call);
        } else if matches!(kind, "tool_use" | "function_call" | "tool_call" | "custom_tool_call") {
            self.call(part);
        } else if let Some(text) = ["text", "refusal", "content", "value"].iter().find_map(|name| part.get(*name)) {
            let text = text.get("value").unwrap_or(text);
            let inner = Content::of_value(text)?;
            let thought = part.get("thought") == Some(&Value::Bool(true));
            if thought {
                self.think(&inner.text)
            } else {
                self.text.push_str(&inner.text)
            }
            self.think(&inner.reasoning.unwrap_or_default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> (String, Option<String>) {
        let content = Content::of_value(&value).expect("readable");
        (content.text, content.reasoning)
    }

    #[test]
    fn every_api_is_understood() {
        for (api, value, text, reasoning) in [
            ("text", json!("a"), "a", None),
            ("null", json!(null), "", None),
            ("OpenAI", json!({"role": "assistant", "content": "a"}), "a", None),
            ("parts", json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", None),
            ("an image", json!([{"type": "image_url", "image_url": {"url": "x"}}, "a"]), "a", None),
            ("Responses", json!([{"type": "output_text", "text": "a", "annotations": []}]), "a", None),
            ("Responses", json!([{"type": "refusal", "refusal": "no"}]), "no", None),
            (
                "Responses",
                json!([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "r"}]}]),
                "",
                Some("r"),
            ),
            ("Responses", json!([{"type": "reasoning", "summary": []}]), "", None),
            ("Responses", json!([{"type": "message", "content": [{"type": "output_text", "text": "a"}]}]), "a", None),
            (
                "Anthropic",
                json!([{"type": "thinking", "thinking": "r", "signature": "s"}, {"type": "text", "text": "a"}]),
                "a",
                Some("r"),
            ),
            (
                "Anthropic",
                json!([{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "a"}]),
                "a",
                None,
            ),
            (
                "Anthropic",
                json!([{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}]),
                "f({\"x\":1})",
                None,
            ),
            (
                "Mistral",
                json!([{"type": "thinking", "thinking": [{"type": "text", "text": "r"}]}, {"type": "text", "text": "a"}]),
                "a",
                Some("r"),
            ),
            ("Gemini", json!([{"text": "r", "thought": true}, {"text": "a"}]), "a", Some("r")),
            ("Gemini", json!([{"functionCall": {"name": "f", "args": {}}}]), "f({})", None),
            (
                "inspect",
                json!([{"type": "reasoning", "reasoning": "r"}, {"type": "text", "text": "a"}]),
                "a",
                Some("r"),
            ),
            ("DeepSeek", json!({"content": null, "reasoning_content": "r"}), "", Some("r")),
            ("vLLM", json!({"content": "a", "reasoning": "r", "reasoning_content": null}), "a", Some("r")),
            (
                "OpenRouter",
                json!({"content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "r"}]}),
                "a",
                Some("r"),
            ),
            ("Ollama", json!({"content": "a", "thinking": "r"}), "a", Some("r")),
            ("Arena-Hard", json!({"answer": "a", "thought": "r"}), "a", Some("r")),
            ("FastChat", json!({"content": "a", "token_len": 1}), "a", None),
            ("a part alone", json!({"type": "tool_use", "name": "f", "input": {"x": 1}}), "f({\"x\":1})", None),
            ("refusal", json!({"content": null, "refusal": "no"}), "no", None),
            (
                "tool calls",
                json!({"content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
                "f({})",
                None,
            ),
        ] {
            let expected = (text.to_owned(), reasoning.map(str::to_owned));
            assert_eq!(read(value.clone()), expected, "{api}: {value}");
        }
        assert_eq!(Content::of_value(&json!(7)).unwrap_err(), "expected a text or a list of parts, got a number");
        assert!(Content::of_value(&json!({"content": [true]})).unwrap_err().starts_with("`content`: expected a text"));
    }

    #[test]
    fn an_object_with_any_field_of_a_message_is_one() {
        let is_message = |value: Value| Content::is_message(value.as_object().expect("an object"));
        for name in ["content", "text", "parts", "reasoning_content", "thought", "tool_calls", "refusal", "type"] {
            assert!(is_message(json!({ "id": 1, name: null })), "{name}");
        }
        assert!(!is_message(json!({ "id": 1, "role": "assistant", "Content": "a" })));
    }
}
