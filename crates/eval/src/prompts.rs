//! Prompts, one JSON object a line.
//!
//! | field | |
//! |---|---|
//! | `id` | unique; in a plain file also `prompt_id`, `question_id` or `custom_id`; default: the hash of the prompt |
//! | `messages` | the conversation, or `prompt`: one user message; in a plain file also `instruction`, `question` or FastChat's `turns` |
//! | `slice` | kind of prompt; optional in a plain file |
//! | `reference` | gold answer, optional |
//! | `closed` | `true` if only the gold answer is correct, so that `exact_match` applies |
//! | `language` | BCP 47 tag of the expected answer, optional: scripts of it are not foreign |
//!
//! A plain file may be FastChat's `question.jsonl`, AlpacaEval's evaluation set or an OpenAI batch input, and may
//! carry other fields; the prompts of a suite may not.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use smpo_chat::{Message, json_kind};
use smpo_files::sha256;

use crate::input_error::InputError;
use crate::json_rows::{self, Row, text};
use crate::slices;

/// One prompt of a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Unique in its suite.
    pub id: String,
    /// Slice: the kind of prompt.
    pub slice: String,
    /// The conversation; never empty, never ending with the assistant.
    pub messages: Vec<Message>,
    /// Gold answer.
    pub reference: Option<String>,
    /// BCP 47 tag of the language of the expected answer.
    pub language: Option<String>,
    /// Only the gold answer is correct.
    pub closed: bool,
}

/// Required fields of a file of prompts.
#[derive(Debug, Clone, Copy)]
pub enum Strictness<'a> {
    /// The prompts of a suite: an id and a declared slice each, no unknown field, no prompt twice.
    Suite {
        /// The declared slices.
        slices: &'a [String],
    },
    /// Anything that has prompts.
    Plain,
}

const FIELDS: [&str; 7] = ["id", "slice", "messages", "prompt", "reference", "language", "closed"];

/// Reads a file of prompts.
///
/// # Errors
/// [`InputError`], with the line: not JSON, no prompt, an id twice, an undeclared slice, no prompt at all.
pub fn read_prompts(path: &Path, strictness: Strictness<'_>) -> Result<Vec<Prompt>, InputError> {
    let mut prompts = Vec::new();
    let mut first_line_of_id: HashMap<String, usize> = HashMap::new();
    let mut first_line_of_prompt: HashMap<Vec<Message>, usize> = HashMap::new();
    for (line, row) in json_rows::read(path)? {
        let at = |problem: String| InputError::line(path, line, problem);
        let prompt = parse(&row, strictness).map_err(at)?;
        if let Some(first) = first_line_of_id.insert(prompt.id.clone(), line) {
            return Err(at(format!("the id {:?} is already taken by line {first}; ids must be unique", prompt.id)));
        }
        if matches!(strictness, Strictness::Suite { .. })
            && let Some(first) = first_line_of_prompt.insert(prompt.messages.clone(), line)
        {
            return Err(at(format!("the same prompt as line {first}; it would count twice")));
        }
        prompts.push(prompt);
    }
    Ok(prompts)
}

fn parse(row: &Row, strictness: Strictness<'_>) -> Result<Prompt, String> {
    let strict = matches!(strictness, Strictness::Suite { .. });
    if strict && let Some(unknown) = row.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let hint = smpo_suggest::did_you_mean(unknown, FIELDS);
        return Err(format!("unknown field `{unknown}`{hint} (known: {})", FIELDS.join(", ")));
    }
    let messages = messages(row, strict)?;
    let id = match id(row, strict)? {
        Some(id) => id,
        None if strict => return Err("expected an `id`, got none".into()),
        None => prompt_hash(&messages),
    };
    let slice = match (text(row, "slice")?, strictness) {
        (Some(slice), Strictness::Suite { slices }) if !slices.contains(&slice) => {
            let hint = smpo_suggest::did_you_mean(&slice, slices.iter().map(String::as_str));
            return Err(format!(
                "the slice {slice:?} is not declared in the suite{hint} (declared: {})",
                slices.join(", ")
            ));
        }
        (Some(slice), _) => slice,
        (None, Strictness::Suite { .. }) => return Err("expected a `slice`, got none".into()),
        (None, Strictness::Plain) => slices::PLAIN.into(),
    };
    let closed = match row.get("closed") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(closed)) => *closed,
        Some(other) => return Err(format!("`closed`: expected true or false, got {}", json_kind(other))),
    };
    let reference = text(row, "reference")?;
    if closed && reference.as_deref().is_none_or(|gold| gold.trim().is_empty()) {
        return Err("a closed prompt needs its gold answer in `reference`".into());
    }
    Ok(Prompt { id, slice, messages, reference, language: text(row, "language")?, closed })
}

/// The row's own id: a string, or the digits of an integer.
pub(crate) fn id(row: &Row, strict: bool) -> Result<Option<String>, String> {
    // The more particular first: a row of a batch has an `id` of its own besides.
    let names: &[&str] = if strict { &["id"] } else { &["custom_id", "prompt_id", "question_id", "id"] };
    for name in names {
        match row.get(*name) {
            None | Some(Value::Null) => {}
            Some(Value::String(id)) if !id.is_empty() => return Ok(Some(id.clone())),
            Some(Value::Number(id)) if id.is_i64() || id.is_u64() => return Ok(Some(id.to_string())),
            Some(other) => return Err(format!("`{name}`: expected a string or an integer, got {other}")),
        }
    }
    Ok(None)
}

/// Id of a prompt that has none: equal prompts of different files get equal ids, so runs pair up.
pub(crate) fn prompt_hash(messages: &[Message]) -> String {
    let text: Vec<[&str; 2]> =
        messages.iter().map(|message| [message.role.as_str(), message.content.as_str()]).collect();
    sha256(serde_json::json!(text).to_string().as_bytes())[..16].to_owned()
}

fn messages(row: &Row, strict: bool) -> Result<Vec<Message>, String> {
    let messages = conversation(row, strict)?.ok_or_else(|| {
        let known = if strict {
            "`messages` or `prompt`"
        } else {
            "`messages`, `prompt`, `instruction`, `question` or `turns`"
        };
        format!("expected {known}, got none of them")
    })?;
    match messages.last() {
        None => Err("`messages`: expected at least one message, got an empty list".into()),
        Some(last) if last.role == "assistant" => {
            Err("`messages`: expected the last message to be the one to answer, got an assistant message".into())
        }
        Some(_) => Ok(messages),
    }
}

/// The conversation of a row under any of the names it goes by; `None` where there is none.
pub(crate) fn conversation(row: &Row, strict: bool) -> Result<Option<Vec<Message>>, String> {
    if let Some(Value::Array(messages)) = row.get("messages") {
        return messages.iter().map(message).collect::<Result<_, _>>().map(Some);
    }
    let names: &[&str] =
        if strict { &["messages", "prompt"] } else { &["messages", "prompt", "instruction", "question"] };
    for name in names {
        match row.get(*name) {
            None | Some(Value::Null) => {}
            Some(Value::Array(messages)) => return messages.iter().map(message).collect::<Result<_, _>>().map(Some),
            Some(Value::String(text)) if *name != "messages" => return Ok(Some(vec![Message::user(text.clone())])),
            Some(other) => return Err(format!("`{name}`: expected a conversation, got {}", json_kind(other))),
        }
    }
    if strict {
        return Ok(None);
    }
    match (row.get("turns"), row.get("body")) {
        (Some(Value::Array(turns)), _) => match turns.as_slice() {
            [turn] => Ok(Some(vec![Message::user(turn_text(turn)?)])),
            turns => Err(format!(
                "`turns`: expected one turn, got {}; later turns need the model's own answers: give whole conversations in `messages`",
                turns.len()
            )),
        },
        // one line of an OpenAI batch input
        (None, Some(Value::Object(body))) => conversation(body, false),
        _ => Ok(None),
    }
}

/// A FastChat turn: a string, or an object with `content`.
pub(crate) fn turn_text(turn: &Value) -> Result<String, String> {
    match turn {
        Value::String(text) => Ok(text.clone()),
        Value::Object(turn) => match turn.get("content") {
            Some(Value::String(text)) => Ok(text.clone()),
            _ => Err("a turn: expected a string in `content`".into()),
        },
        other => Err(format!("a turn: expected a string or an object with `content`, got {}", json_kind(other))),
    }
}

fn message(value: &Value) -> Result<Message, String> {
    let field = |name: &str| match value.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("`messages`: expected a string in `{name}`, got {}", json_kind(other))),
        None => Err(format!("`messages`: expected objects with `role` and `content`, got one without `{name}`")),
    };
    Ok(Message::new(field("role")?, field("content")?))
}
