//! The text of a message: a string, or parts, with the reasoning beside it or among them.

use serde_json::{Map, Value};

/// Names of the field that holds reasoning: DeepSeek, SGLang and llama.cpp; vLLM, OpenRouter and Ollama; others.
const REASONING: [&str; 4] = ["reasoning_content", "reasoning", "thinking", "reasoning_text"];

/// A message in the model's own order: reasoning, then text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Spoken {
    pub text: String,
    pub reasoning: Option<String>,
}

impl Spoken {
    /// Reads `message`; what cannot be read as text is left out.
    pub fn read(message: &Map<String, Value>) -> Self {
        let (mut text, mut thought) = (String::new(), String::new());
        match message.get("content") {
            Some(Value::String(content)) => text.push_str(content),
            Some(Value::Array(parts)) => {
                for part in parts {
                    match part.get("type").and_then(Value::as_str) {
                        Some("thinking" | "reasoning") => thought.push_str(&plain(part)),
                        _ => text.push_str(&plain(part)),
                    }
                }
            }
            _ => {}
        }
        let field =
            REASONING.iter().find_map(|name| message.get(*name).map(plain).filter(|reasoning| !reasoning.is_empty()));
        let details = || message.get("reasoning_details").map(plain).unwrap_or_default();
        let reasoning = field.unwrap_or_else(|| if thought.is_empty() { details() } else { thought });
        if text.is_empty()
            && let Some(Value::String(refusal)) = message.get("refusal")
        {
            text.push_str(refusal);
        }
        Spoken { text, reasoning: Some(reasoning).filter(|reasoning| !reasoning.is_empty()) }
    }
}

/// The text of a part or of parts.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(plain).collect(),
        Value::Object(part) => {
            const NAMES: [&str; 5] = ["text", "thinking", "reasoning", "content", "summary"];
            NAMES.iter().find_map(|name| part.get(*name)).map(plain).unwrap_or_default()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(message: Value) -> (String, Option<String>) {
        let Value::Object(message) = message else { panic!("{message} is no message") };
        let Spoken { text, reasoning } = Spoken::read(&message);
        (text, reasoning)
    }

    #[test]
    fn reasoning_is_found_wherever_it_is() {
        for message in [
            json!({"content": "Owl.", "reasoning_content": "Hm."}),
            json!({"content": "Owl.", "reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}),
            json!({"content": "Owl.", "reasoning": null, "thinking": "Hm."}),
            json!({"content": "Owl.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}),
            json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Owl."}]}),
            json!({"content": [{"type": "reasoning", "reasoning": "Hm."}, "Owl."]}),
        ] {
            assert_eq!(read(message.clone()), ("Owl.".into(), Some("Hm.".into())), "{message}");
        }
    }

    #[test]
    fn text_comes_as_a_string_or_in_parts_or_not() {
        for (message, text) in [
            (json!({"content": " a\n"}), " a\n"),
            (json!({"content": [{"type": "text", "text": "a"}, {"type": "output_text", "text": "b"}, 7]}), "ab"),
            (json!({"content": null, "refusal": "I cannot."}), "I cannot."),
            (json!({"content": null, "reasoning_content": ""}), ""),
            (json!({}), ""),
        ] {
            assert_eq!(read(message.clone()), (text.into(), None), "{message}");
        }
    }
}
