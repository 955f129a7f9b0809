//! The conversation before the answers, from the columns that hold parts of it.

use serde_json::Value;
use smpo_chat::Message;

use super::columns::{CONVERSATION, PROMPT, SYSTEM};
use super::fields::{Fields, is_silent};
use super::finish::of_generated;
use super::join::same_text;
use super::message::{message as one_message, messages};
use super::spelt::unquoted;
use super::transcript::transcript;
use super::{Remarks, wrong_type};
use crate::lenient::is_object;
use crate::read_error::Problem;

/// A part of the conversation, with the column it came from.
#[derive(Debug)]
pub(super) struct Part {
    pub field: &'static str,
    pub messages: Vec<Message>,
}

/// Takes the prompt: messages or their JSON, a transcript, or one text, with `history` before it and `input` or `context`
/// after it.
pub(super) fn prompt(row: &mut Fields, remarks: &mut Remarks) -> Result<Option<Part>, Problem> {
    let Some((field, value)) = question(row) else { return Ok(None) };
    let messages = match unquoted(value, field)? {
        Value::String(text) => match transcript(&text) {
            Some(messages) => messages,
            None => {
                let mut messages = history(row, remarks)?;
                messages.push(Message::user(with_input(row, text)));
                messages
            }
        },
        other => {
            let mut prompt = match other {
                message if is_object(&message) => vec![one_message(message, field, remarks)?],
                other => messages(other, field, remarks)?,
            };
            if prompt.iter().all(|message| message.role != "assistant") {
                let at = usize::from(prompt.first().is_some_and(|first| first.role == "system"));
                prompt.splice(at..at, history(row, remarks)?);
            }
            prompt
        }
    };
    repeated(row, &messages);
    Ok(Some(Part { field, messages }))
}

/// True for a prompt that is a transcript and ends in an open "Assistant:".
pub(super) fn is_open_transcript(row: &Fields) -> bool {
    let text = PROMPT.iter().find_map(|name| row.get(name)?.as_str());
    text.is_some_and(|text| text.trim_end().ends_with("\n\nAssistant:") && transcript(text).is_some())
}

/// The column of the question. `input` and `context` are that only where no other is.
fn question(row: &mut Fields) -> Option<(&'static str, Value)> {
    if let Some(found) = row.take_first(PROMPT) {
        return Some(found);
    }
    let alone = |value: &Value| value.is_string() && !is_silent(value);
    if let Some(input) = row.take_if("input", alone) {
        return Some(("input", input));
    }
    let is_list = |value: &Value| value.is_array() && !is_silent(value);
    ["input", "context"].into_iter().find_map(|name| Some((name, row.take_if(name, is_list)?)))
}

/// A question with what it is about below it.
fn with_input(row: &mut Fields, mut text: String) -> String {
    for name in ["input", "context"] {
        if let Some(Value::String(more)) = row.take_if(name, Value::is_string)
            && !more.is_empty()
        {
            text.push_str(if text.is_empty() { "" } else { "\n\n" });
            text.push_str(&more);
        }
    }
    text
}

/// Earlier turns: pairs of question and answer (LLaMA-Factory, ms-swift), or messages.
fn history(row: &mut Fields, remarks: &mut Remarks) -> Result<Vec<Message>, Problem> {
    let turns = match row.take("history") {
        None => return Ok(Vec::new()),
        Some(Value::Array(turns)) => turns,
        Some(other) if is_silent(&other) => return Ok(Vec::new()),
        Some(other) => return Err(wrong_type("history".into(), "a list of [question, answer]", &other)),
    };
    if turns.iter().all(Value::is_object) {
        return messages(turns.into(), "history", remarks);
    }
    let mut read = Vec::with_capacity(2 * turns.len());
    for (at, turn) in turns.into_iter().enumerate() {
        match turn {
            Value::Array(turn) => match <[Value; 2]>::try_from(turn) {
                Ok([Value::String(question), Value::String(answer)]) => {
                    read.extend([Message::user(question), Message::assistant(answer)]);
                }
                _ => {
                    let (field, got) = (format!("history[{at}]"), "another list".to_string());
                    return Err(Problem::WrongType { field, expected: "[question, answer], both texts", got });
                }
            },
            other => return Err(wrong_type(format!("history[{at}]"), "[question, answer]", &other)),
        }
    }
    Ok(read)
}

/// Takes further columns of the prompt that only repeat it.
fn repeated(row: &mut Fields, prompt: &[Message]) {
    for &name in PROMPT {
        row.take_if(name, |value| match value {
            Value::String(text) => text.is_empty() || prompt.iter().any(|message| same_text(&message.content, text)),
            other => is_silent(other),
        });
    }
}

/// Takes the conversation.
pub(super) fn conversation(row: &mut Fields, remarks: &mut Remarks) -> Result<Option<Part>, Problem> {
    for &field in CONVERSATION {
        if let Some(value) = row.take(field)
            && !is_silent(&value)
        {
            let mut messages = messages(value, field, remarks)?;
            of_generated(row, &mut messages, remarks)?;
            return Ok(Some(Part { field, messages }));
        }
    }
    Ok(None)
}

/// Takes the system message; an empty text is none.
pub(super) fn system(row: &mut Fields) -> Result<Option<Part>, Problem> {
    let mut found: Option<Part> = None;
    for &field in SYSTEM {
        let text = match row.take(field) {
            None => continue,
            Some(Value::String(text)) if text.is_empty() => continue,
            Some(Value::String(text)) => text,
            Some(other) => return Err(wrong_type(field.to_string(), "a string", &other)),
        };
        match &found {
            None => found = Some(Part { field, messages: vec![Message::system(text)] }),
            Some(known) if same_text(&known.messages[0].content, &text) => {}
            Some(known) => {
                let (one, other) = (format!("`{field}`"), format!("`{}`", known.field));
                return Err(Problem::Contradiction { one, other, remedy: "keep one system message" });
            }
        }
    }
    Ok(found)
}
