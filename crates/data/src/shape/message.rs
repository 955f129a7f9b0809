//! Messages: `role`/`content` (OpenAI) or `from`/`value` (ShareGPT), with the fields that templates read.

use std::fmt;

use serde_json::{Map, Value, json};
use smpo_chat::Message;

use super::columns::{ABOUT_IT, REASONING};
use super::fields::{Fields, is_silent};
use super::finish::{ended, flag};
use super::media::{PARTS, refuse_media};
use super::speakers::{Speaker, speaker};
use super::spelt::unquoted;
use super::{Remarks, wrong_type};
use crate::read_error::Problem;

/// Names of the text; the last is PKU's.
const CONTENT: &[&str] = &["content", "value", "text"];
/// Weights of a message, 0 or 1.
const WEIGHTS: [&str; 2] = ["weight", "loss_weight"];
/// Names of the flag that a message is scored or not.
const SCORED: [&str; 5] = ["train", "training", "trainable", "loss", "loss_mask"];

/// A place in a row: a field, or an element of its list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub field: &'a str,
    pub index: Option<usize>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}[{index}]", self.field),
            None => f.write_str(self.field),
        }
    }
}

impl Place<'_> {
    fn key(&self, name: &str) -> String {
        format!("{self}.{name}")
    }

    /// The place as the report of unread keys names it: without the index.
    fn pattern(&self) -> String {
        format!("{}{}.", self.field, if self.index.is_some() { "[]" } else { "" })
    }
}

/// A list of messages, or its JSON.
pub(super) fn messages(value: Value, field: &str, remarks: &mut Remarks) -> Result<Vec<Message>, Problem> {
    let items = match unquoted(value, field)? {
        Value::Array(items) => items,
        text @ Value::String(_) => return Err(wrong_type(field.into(), "a list of messages, or its JSON", &text)),
        other => return Err(wrong_type(field.into(), "a string or a list of messages", &other)),
    };
    let mut messages: Vec<Message> = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        if let Some(turn) = question_and_answer(&item) {
            messages.extend(turn);
            continue;
        }
        let (mut message, is_call) = one(item, Place { field, index: Some(at) }, remarks)?;
        // ms-swift writes the calls of one turn as messages of their own
        if is_call
            && let Some(Value::Array(calls)) = messages.last_mut().filter(|last| is_call_alone(last)).and_then(calls_of)
            && let Some(Value::Array(more)) = calls_of(&mut message)
        {
            calls.append(more);
            continue;
        }
        messages.push(message);
    }
    Ok(messages)
}

/// The two messages of a turn that is one object (Capybara): `input` and `output`.
fn question_and_answer(turn: &Value) -> Option<[Message; 2]> {
    let turn = turn.as_object().filter(|turn| turn.len() == 2)?;
    let text = |name: &str| turn.get(name)?.as_str();
    let (question, answer) = text("input").zip(text("output")).or(text("human").zip(text("assistant")))?;
    Some([Message::user(question), Message::assistant(answer)])
}

/// One message.
pub(super) fn message(value: Value, field: &str, remarks: &mut Remarks) -> Result<Message, Problem> {
    Ok(one(value, Place { field, index: None }, remarks)?.0)
}

fn calls_of(message: &mut Message) -> Option<&mut Value> {
    message.fields.get_mut("tool_calls")
}

fn is_call_alone(message: &Message) -> bool {
    message.role == "assistant" && message.content.is_empty() && message.fields.contains_key("tool_calls")
}

/// A message, and true if it was a turn of the speaker `function_call`.
fn one(value: Value, at: Place<'_>, remarks: &mut Remarks) -> Result<(Message, bool), Problem> {
    let Value::Object(map) = value else {
        return Err(wrong_type(at.to_string(), "a message with `role` and `content`", &value));
    };
    let mut fields = Fields::new(map);
    let (role, is_call) = role(&mut fields, at)?;
    let content = fields.take_first(CONTENT);
    if let (Some((_, Value::String(_))), false, true) = (&content, is_call, fields.is_spent())
        && let Some((_, Value::String(text))) = content
    {
        return Ok((Message::new(role, text), false));
    }
    let mut message = Message::new(role, String::new());
    message.fields = template_fields(&mut fields, at)?;
    match content {
        Some((name, Value::String(text))) if is_call => {
            message.fields.insert("tool_calls".into(), called(&text, &at.key(name))?);
        }
        Some((_, Value::String(text))) => message.content = text,
        Some((name, Value::Array(parts))) => text_parts(parts, &at, name, &mut message, remarks)?,
        Some((name, other)) => return Err(wrong_type(at.key(name), "a string", &other)),
        // a call or the thoughts of a cut answer come without text
        None if message.fields.contains_key("tool_calls") => drop(message.fields.insert("content".into(), Value::Null)),
        None if !message.fields.is_empty() => {}
        None => match fields.names().find(|name| CONTENT.contains(name)) {
            Some(name) => return Err(wrong_type(at.key(name), "a string", &Value::Null)),
            None => return Err(without(&fields, at, "a message with `content`")),
        },
    }
    if message.role == "assistant" {
        message.finished = ended(&mut fields, &ABOUT_IT, remarks)?.unwrap_or(true);
        message.scored = scored(&mut fields, at)?;
    }
    fields.note_unread(&at.pattern(), remarks);
    Ok((message, is_call))
}

fn role(fields: &mut Fields, at: Place<'_>) -> Result<(String, bool), Problem> {
    let Some((name, role)) = fields.take_first(&["role", "from"]) else {
        return Err(match fields.names().find(|name| ["role", "from"].contains(name)) {
            Some(name) => wrong_type(at.key(name), "a string", &Value::Null),
            None => without(fields, at, "a message with `role`"),
        });
    };
    let Value::String(role) = role else { return Err(wrong_type(at.key(name), "a string", &role)) };
    if role.trim().is_empty() {
        let got = format!("{role:?}");
        return Err(Problem::WrongType { field: at.key(name), expected: "a role such as \"user\"", got });
    }
    Ok(match speaker(&role) {
        Some(Speaker::Role(role)) => (role.to_string(), false),
        Some(Speaker::Call) => ("assistant".to_string(), true),
        None => (role, false),
    })
}

/// The fields that templates read beside role and text, in a fixed order.
fn template_fields(fields: &mut Fields, at: Place<'_>) -> Result<Map<String, Value>, Problem> {
    let mut read = Map::new();
    if fields.is_spent() {
        return Ok(read);
    }
    if let Some(reasoning) = reasoning(fields, &format!("{at}."))? {
        read.insert(REASONING[0].into(), reasoning.into());
    }
    if let Some(calls) = tool_calls(fields, at)? {
        read.insert("tool_calls".into(), calls);
    }
    for name in ["tool_call_id", "name"] {
        match fields.take(name) {
            None => {}
            Some(value @ Value::String(_)) => {
                read.insert(name.into(), value);
            }
            Some(other) => return Err(wrong_type(at.key(name), "a string", &other)),
        }
    }
    Ok(read)
}

/// The reasoning of an answer under any of its names, which must agree. `place` goes before the names in errors.
pub(super) fn reasoning(fields: &mut Fields, place: &str) -> Result<Option<String>, Problem> {
    let mut found: Option<String> = None;
    for name in REASONING {
        match (fields.take(name), &found) {
            (None, _) => {}
            (Some(Value::String(text)), None) => found = Some(text),
            (Some(Value::String(text)), Some(known)) if text == *known => {}
            (Some(Value::String(_)), Some(_)) => {
                return Err(Problem::Contradiction {
                    one: format!("`{place}{name}`"),
                    other: "another reasoning of this answer".into(),
                    remedy: "keep one",
                });
            }
            (Some(other), _) => return Err(wrong_type(format!("{place}{name}"), "a string", &other)),
        }
    }
    Ok(found)
}

/// Tool calls as a list; also as the JSON text of one, or as the single call of OpenAI's older `function_call`.
fn tool_calls(fields: &mut Fields, at: Place<'_>) -> Result<Option<Value>, Problem> {
    if let Some(call) = fields.take_if("function_call", |call| !is_silent(call)) {
        return match call {
            Value::Object(_) => Ok(Some(json!([{"type": "function", "function": call}]))),
            other => Err(wrong_type(at.key("function_call"), "a call with `name` and `arguments`", &other)),
        };
    }
    let calls = match fields.take("tool_calls") {
        Some(Value::String(text)) if !text.trim().is_empty() => serde_json::from_str(&text).unwrap_or(text.into()),
        Some(calls) => calls,
        None => return Ok(None),
    };
    if is_silent(&calls) {
        return Ok(None);
    }
    let Value::Array(calls) = calls else { return Err(wrong_type(at.key("tool_calls"), "a list of calls", &calls)) };
    let is_named = |call: &Value| call.get("function").unwrap_or(call).get("name").is_some_and(Value::is_string);
    match calls.iter().position(|call| !is_named(call)) {
        None => Ok(Some(calls.into())),
        Some(index) => {
            let expected = "a call of a `function` with its `name`";
            Err(wrong_type(format!("{}[{index}]", at.key("tool_calls")), expected, &calls[index]))
        }
    }
}

/// The calls in a turn of the speaker `function_call`: JSON with `name` and `arguments`, or a list of such.
fn called(text: &str, field: &str) -> Result<Value, Problem> {
    let is_call = |call: &Value| call.get("name").is_some_and(Value::is_string);
    let calls = match serde_json::from_str(text) {
        Ok(Value::Array(calls)) if !calls.is_empty() && calls.iter().all(is_call) => calls,
        Ok(call) if is_call(&call) => vec![call],
        _ => {
            let got = "other text".to_string();
            let expected = "a call as JSON with `name` and `arguments`";
            return Err(Problem::WrongType { field: field.to_string(), expected, got });
        }
    };
    Ok(calls.into_iter().map(|call| json!({"type": "function", "function": call})).collect())
}

/// Content as a list of `{"type": "text", "text": …}` and `{"type": "thinking", "thinking": …}` parts.
fn text_parts(
    parts: Vec<Value>,
    at: &Place<'_>,
    name: &str,
    message: &mut Message,
    remarks: &mut Remarks,
) -> Result<(), Problem> {
    let mut thoughts: Option<String> = None;
    for (index, part) in parts.into_iter().enumerate() {
        let place = || format!("{at}.{name}[{index}]");
        let map = match part {
            Value::String(text) => {
                message.content.push_str(&text);
                continue;
            }
            Value::Object(map) => map,
            other => return Err(wrong_type(place(), "a text part", &other)),
        };
        let mut part = Fields::new(map);
        let kind = part.take("type");
        let kind = kind.as_ref().and_then(Value::as_str).unwrap_or("text");
        if PARTS.contains(&kind) {
            return Err(refuse_media(place(), kind));
        }
        // LLaMA-Factory v1 has `value` in each
        let said = part.take_first(&["text", "thinking", "value"]);
        match (kind, said) {
            ("thinking" | "reasoning", Some(("thinking" | "value", Value::String(text)))) => {
                thoughts.get_or_insert_default().push_str(&text);
            }
            ("tool_call", Some(("value", Value::String(text)))) => {
                let mut calls = called(&text, &place())?;
                if let (Some(Value::Array(known)), Value::Array(more)) =
                    (message.fields.get_mut("tool_calls"), &mut calls)
                {
                    known.append(more);
                } else {
                    message.fields.insert("tool_calls".into(), calls);
                }
            }
            (_, Some(("text", Value::String(text)))) | ("text", Some(("value", Value::String(text)))) => {
                message.content.push_str(&text);
            }
            (kind, ..) => {
                let got = format!("a part of type {kind:?}");
                return Err(Problem::WrongType { field: place(), expected: "a text part", got });
            }
        }
        part.note_unread(&format!("{}{name}[].", at.pattern()), remarks);
    }
    let Some(thoughts) = thoughts else { return Ok(()) };
    match message.fields.insert(REASONING[0].into(), thoughts.clone().into()) {
        Some(known) if known != Value::String(thoughts) => Err(Problem::Contradiction {
            one: format!("thinking in `{at}.{name}`"),
            other: "another reasoning of this answer".into(),
            remedy: "keep one",
        }),
        _ => Ok(()),
    }
}

/// False where a message says that it is not to be learned.
fn scored(fields: &mut Fields, at: Place<'_>) -> Result<bool, Problem> {
    let mut scored = true;
    for name in WEIGHTS {
        if let Some(weight) = fields.take(name) {
            let (field, got) = (at.key(name), weight.to_string());
            scored &= flag(&weight).ok_or(Problem::WrongType { field, expected: "0 or 1", got })?;
        }
    }
    for name in SCORED {
        if let Some(value) = fields.take(name) {
            scored &= flag(&value).ok_or_else(|| wrong_type(at.key(name), "true or false", &value))?;
        }
    }
    Ok(scored)
}

fn without(fields: &Fields, at: Place<'_>, expected: &'static str) -> Problem {
    let names: Vec<&str> = fields.names().collect();
    Problem::WrongType { field: at.to_string(), expected, got: format!("one with {names:?}") }
}
