//! The conversation of a row, under any of the names it goes by.

use serde_json::Value;
use smpo_chat::{Content, Message, json_kind};

use crate::json_rows::{Row, first, given};

/// Names of a prompt or a conversation, the more particular first.
const NAMES: [&str; 13] = [
    "messages",
    "conversations",
    "conversation",
    "prompt",
    "instruction",
    "question",
    "query",
    // Ragas, lighteval
    "user_input",
    "full_prompt",
    // Gemini
    "contents",
    // the Responses API; also the only prompt of many plain files
    "input",
    "inputs",
    "problem",
];

/// Names that the prompts of a suite may use.
const STRICT_NAMES: [&str; 2] = ["messages", "prompt"];

/// Names of the system message beside a prompt; the Responses API, Gemini.
const SYSTEM: [&str; 5] = ["system", "system_prompt", "instructions", "system_instruction", "systemInstruction"];

/// Requests inside of the rows of a batch input: OpenAI, Anthropic, Gemini, Bedrock.
pub(crate) const REQUESTS: [&str; 4] = ["body", "params", "request", "modelInput"];

/// Other programs' names of two roles.
const ROLES: [(&str, &str); 8] = [
    ("human", "user"),
    ("prompter", "user"),
    ("gpt", "assistant"),
    ("chatgpt", "assistant"),
    ("bot", "assistant"),
    ("model", "assistant"),
    ("ai", "assistant"),
    ("bing", "assistant"),
];

/// The conversation of a row; `None` where there is none.
pub(crate) fn conversation(row: &Row, strict: bool) -> Result<Option<Vec<Message>>, String> {
    let names: &[&str] = if strict { &STRICT_NAMES } else { &NAMES };
    let Some((name, value)) = names.iter().find_map(|name| given(row, name).map(|value| (*name, value))) else {
        let request = REQUESTS.iter().filter(|_| !strict).find_map(|name| row.get(*name)?.as_object());
        return request.map_or(Ok(None), |request| conversation(request, false));
    };
    let mut messages = match value {
        Value::Array(messages) => messages
            .iter()
            .map(message)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|problem| format!("`{name}`: {problem}"))?,
        Value::String(text) if name != "messages" => vec![Message::user(with_input(row, name, text)?)],
        other => return Err(format!("`{name}`: expected a conversation, got {}", json_kind(other))),
    };
    if !strict
        && messages.first().is_none_or(|first| first.role != "system")
        && let Some(system) = first(row, &SYSTEM, system)?
    {
        messages.insert(0, Message::system(system));
    }
    Ok(Some(messages))
}

/// An Alpaca instruction with its input, the same text as `smpo data` makes of them.
fn with_input(row: &Row, name: &str, text: &str) -> Result<String, String> {
    let input = given(row, "input").filter(|_| name == "instruction").and_then(Value::as_str);
    Ok(match input.filter(|input| !input.is_empty()) {
        Some(input) => format!("{text}\n\n{input}"),
        None => text.to_owned(),
    })
}

fn system(row: &Row, field: &str) -> Result<Option<String>, String> {
    let Some(value) = given(row, field) else { return Ok(None) };
    let value = value.get("parts").unwrap_or(value);
    let content = Content::of_value(value).map_err(|problem| format!("`{field}`: {problem}"))?;
    Ok(Some(content.text).filter(|text| !text.is_empty()))
}

/// A conversation that is the text of a JSON list of messages, as lm-evaluation-harness and promptfoo write it.
pub(crate) fn of_json_text(text: &str) -> Option<Vec<Message>> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return None;
    }
    let Ok(Value::Array(messages)) = serde_json::from_str(text) else { return None };
    let messages: Vec<Message> = messages.iter().map(message).collect::<Result<_, _>>().ok()?;
    (!messages.is_empty()).then_some(messages)
}

/// A message with its role under the name of chat templates.
fn message(value: &Value) -> Result<Message, String> {
    let Value::Object(fields) = value else {
        return Err(format!("expected messages with `role` and `content`, got {}", json_kind(value)));
    };
    let role = match first(fields, &["role", "from", "type"], crate::json_rows::text)? {
        Some(role) => role,
        None => return Err("expected messages with `role` and `content`, got one without `role`".into()),
    };
    let known = ROLES.iter().find(|(known, _)| known.eq_ignore_ascii_case(&role)).map(|(_, role)| *role);
    Ok(Message::new(known.unwrap_or(&role), written(fields)?.text))
}

/// The text and the reasoning of a message.
pub(crate) fn written(message: &Row) -> Result<Content, String> {
    match message.get("parts") {
        Some(parts) => Content::of_value(parts),
        None if ["content", "value", "text", "answer", "tool_calls"]
            .iter()
            .all(|name| !message.contains_key(*name)) =>
        {
            Err("expected messages with `role` and `content`, got one without `content`".into())
        }
        None => Content::of_message(message),
    }
}

/// True for a message of the model.
pub(crate) fn is_assistant(message: &Value) -> bool {
    let role = ["role", "from"].iter().find_map(|name| message.get(*name)?.as_str());
    role.is_some_and(|role| {
        role == "assistant"
            || ROLES.iter().any(|(name, meant)| *meant == "assistant" && name.eq_ignore_ascii_case(role))
    })
}
