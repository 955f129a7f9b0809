//! A record from a JSON object of any common shape.

use serde_json::{Map, Value};
use smpo_chat::{Message, TemplateInputs, json_kind};

use crate::read_error::Problem;
use crate::record::{Example, PreferencePair, Record, UnpairedExample};

const PROMPT: [&str; 3] = ["prompt", "question", "instruction"];
const COMPLETION: [&str; 4] = ["completion", "response", "output", "answer"];
const CONVERSATION: [&str; 3] = ["messages", "conversation", "conversations"];
const ID: [&str; 5] = ["id", "prompt_id", "question_id", "uuid", "idx"];
const KNOWN: [&str; 9] = [
    "prompt",
    "chosen",
    "rejected",
    "completion",
    "messages",
    "conversation",
    "conversations",
    "question",
    "instruction",
];

/// The record a row holds.
pub(crate) fn record(row: &Map<String, Value>) -> Result<Record, Problem> {
    let chosen = given(row, "chosen");
    let rejected = given(row, "rejected");
    let mut record = match (chosen, rejected) {
        (Some(chosen), Some(rejected)) => pair(row, chosen, rejected)?,
        (Some(_), None) => return Err(missing(row, "rejected")),
        (None, Some(_)) => return Err(missing(row, "chosen")),
        (None, None) => single(row)?,
    };
    let id = row_id(row).unwrap_or_else(|| format!("{:016x}", record.content_hash()));
    match &mut record {
        Record::Pair(row) => row.id = id,
        Record::Unpaired(row) => row.id = id,
        Record::Example(row) => row.id = id,
    }
    Ok(record)
}

fn pair(row: &Map<String, Value>, chosen: &Value, rejected: &Value) -> Result<Record, Problem> {
    let explicit = prompt(row)?;
    let chosen = side(chosen, "chosen", explicit.is_none())?;
    let rejected = side(rejected, "rejected", explicit.is_none())?;
    let whole = |messages: &[Message]| messages.first().is_some_and(|message| message.role != "assistant");
    // with whole conversations on both sides, their common beginning is the prompt, whatever `prompt` repeats of it
    let Conversations { prompt, chosen, rejected } = match explicit {
        Some(prompt) if !whole(&chosen) && !whole(&rejected) => Conversations { prompt, chosen, rejected },
        _ => common_beginning(chosen, rejected)?,
    };
    check_prompt("prompt", &prompt)?;
    check_completion("chosen", &chosen)?;
    check_completion("rejected", &rejected)?;
    Ok(Record::Pair(PreferencePair { id: String::new(), prompt, inputs: TemplateInputs::default(), chosen, rejected }))
}

fn single(row: &Map<String, Value>) -> Result<Record, Problem> {
    if let Some((field, value)) = first_given(row, &CONVERSATION)
        && prompt_field(row).is_none()
    {
        let mut messages = messages(value, field)?;
        let last = messages.iter().rposition(|message| message.role == "assistant");
        let Some(last) = last.filter(|&last| last + 1 == messages.len() && last > 0) else {
            return Err(Problem::Roles {
                field,
                expected: "a conversation that ends with an assistant message after another's",
                got: roles(&messages),
            });
        };
        // assistant messages in a row are one completion
        let begun = messages[..last].iter().rposition(|message| message.role != "assistant").map_or(0, |at| at + 1);
        let completion = messages.split_off(begun);
        check_prompt(field, &messages)?;
        return Ok(Record::Example(Example {
            id: String::new(),
            prompt: messages,
            inputs: TemplateInputs::default(),
            completion,
        }));
    }
    let Some(prompt) = prompt(row)? else { return Err(unknown_shape(row)) };
    let Some((field, value)) = first_given(row, &COMPLETION) else {
        return Err(missing(row, "completion"));
    };
    let completion = side(value, field, false)?;
    check_prompt("prompt", &prompt)?;
    check_completion(field, &completion)?;
    Ok(match given(row, "label") {
        None => Record::Example(Example { id: String::new(), prompt, inputs: TemplateInputs::default(), completion }),
        Some(label) => {
            let label = match label {
                Value::Bool(label) => *label,
                Value::Number(number) if number.as_u64() == Some(0) => false,
                Value::Number(number) if number.as_u64() == Some(1) => true,
                other => return Err(wrong_type("label", "true or false", other)),
            };
            Record::Unpaired(UnpairedExample {
                id: String::new(),
                prompt,
                inputs: TemplateInputs::default(),
                completion,
                label,
            })
        }
    })
}

/// The explicit prompt: messages, or one text, with the row's `system` before it and an Alpaca `input` after it.
fn prompt(row: &Map<String, Value>) -> Result<Option<Vec<Message>>, Problem> {
    let Some((field, value)) = prompt_field(row) else { return Ok(None) };
    let mut prompt = match value {
        Value::String(text) => match transcript(text) {
            Some(messages) => messages,
            None => {
                let input = given(row, "input").and_then(Value::as_str).filter(|input| !input.is_empty());
                let text = match input {
                    Some(input) if field == "instruction" => format!("{text}\n\n{input}"),
                    _ => text.clone(),
                };
                vec![Message::user(text)]
            }
        },
        other => messages(other, field)?,
    };
    if let Some(system) = given(row, "system") {
        let Value::String(system) = system else { return Err(wrong_type("system", "a string", system)) };
        if !system.is_empty() && prompt.first().is_none_or(|first| first.role != "system") {
            prompt.insert(0, Message::system(system.clone()));
        }
    }
    Ok(Some(prompt))
}

fn prompt_field(row: &Map<String, Value>) -> Option<(&'static str, &Value)> {
    first_given(row, &PROMPT)
}

/// A side of a pair, or a completion: one text, one message, or messages.
fn side(value: &Value, field: &'static str, whole: bool) -> Result<Vec<Message>, Problem> {
    match value {
        Value::String(text) => match transcript(text) {
            Some(messages) => Ok(messages),
            None if whole => Err(Problem::WrongType {
                field: field.to_string(),
                expected: "a row with `prompt`, a list of messages, or a \"\\n\\nHuman: …\\n\\nAssistant: …\" transcript",
                got: "a string, and no `prompt`".to_string(),
            }),
            None => Ok(vec![Message::assistant(text.clone())]),
        },
        Value::Object(_) => Ok(vec![message(value, field.to_string())?]),
        other => messages(other, field),
    }
}

fn messages(value: &Value, field: &'static str) -> Result<Vec<Message>, Problem> {
    let Value::Array(items) = value else {
        return Err(wrong_type(field, "a string or a list of messages", value));
    };
    items.iter().enumerate().map(|(at, item)| message(item, format!("{field}[{at}]"))).collect()
}

/// A message as `role`/`content`, or as ShareGPT's `from`/`value`.
fn message(value: &Value, field: String) -> Result<Message, Problem> {
    let Value::Object(map) = value else {
        return Err(wrong_type(&field, "a message with `role` and `content`", value));
    };
    let text = |names: [&'static str; 2]| names.into_iter().find_map(|name| map.get(name).map(|value| (name, value)));
    let Some((name, role)) = text(["role", "from"]) else {
        return Err(message_field(map, &field, "role"));
    };
    let Value::String(role) = role else {
        return Err(wrong_type(&format!("{field}.{name}"), "a string", role));
    };
    if role.trim().is_empty() {
        return Err(Problem::WrongType {
            field: format!("{field}.{name}"),
            expected: "a role such as \"user\"",
            got: format!("{role:?}"),
        });
    }
    if map
        .get("tool_calls")
        .is_some_and(|calls| calls.as_array().is_none_or(|calls| !calls.is_empty()) && !calls.is_null())
    {
        return Err(Problem::WrongType {
            field: format!("{field}.tool_calls"),
            expected: "messages of text only",
            got: "tool calls, which this trainer does not learn from".to_string(),
        });
    }
    let Some((name, content)) = text(["content", "value"]) else {
        return Err(message_field(map, &field, "content"));
    };
    let content = match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => text_parts(parts, &format!("{field}.{name}"))?,
        other => return Err(wrong_type(&format!("{field}.{name}"), "a string", other)),
    };
    // ShareGPT's names for the two speakers
    let role = match role.as_str() {
        "human" => "user",
        "gpt" => "assistant",
        other => other,
    };
    Ok(Message::new(role, content))
}

/// Content as a list of `{"type": "text", "text": …}` parts.
fn text_parts(parts: &[Value], field: &str) -> Result<String, Problem> {
    let mut text = String::new();
    for (at, part) in parts.iter().enumerate() {
        match (part, part.get("text")) {
            (Value::String(part), _) | (_, Some(Value::String(part))) => text.push_str(part),
            _ => return Err(wrong_type(&format!("{field}[{at}]"), "a text part", part)),
        }
    }
    Ok(text)
}

/// HH-RLHF: turns that begin with "\n\nHuman: " and "\n\nAssistant: ".
fn transcript(text: &str) -> Option<Vec<Message>> {
    const MARKS: [(&str, &str); 2] = [("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant")];
    let mut rest = text;
    if !rest.starts_with(MARKS[0].0) {
        return None;
    }
    let mut messages = Vec::new();
    while let Some((mark, role)) = MARKS.into_iter().find(|(mark, _)| rest.starts_with(mark)) {
        let body = &rest[mark.len()..];
        let end = MARKS.iter().filter_map(|(mark, _)| body.find(mark)).min().unwrap_or(body.len());
        let content = body[..end].strip_prefix(' ').unwrap_or(&body[..end]);
        // a prompt ends in an open "\n\nAssistant:"
        if !(end == body.len() && role == "assistant" && content.is_empty()) {
            messages.push(Message::new(role, content));
        }
        rest = &body[end..];
    }
    Some(messages)
}

/// A pair before it is checked.
struct Conversations {
    prompt: Vec<Message>,
    chosen: Vec<Message>,
    rejected: Vec<Message>,
}

/// Splits two conversations where they part: everything both share is the prompt.
fn common_beginning(mut chosen: Vec<Message>, mut rejected: Vec<Message>) -> Result<Conversations, Problem> {
    let shared = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
    // a prompt ends before an assistant message: two equal conversations still part before their last turn
    let begins = |at: usize| chosen[at - 1].role != "assistant" && at < chosen.len() && at < rejected.len();
    let Some(at) = (1..=shared).rev().find(|&at| begins(at)) else {
        return Err(Problem::Roles {
            field: "chosen",
            expected: "conversations that begin with the same prompt in `chosen` and `rejected`",
            got: format!("{} against {}", roles(&chosen), roles(&rejected)),
        });
    };
    let sides = (chosen.split_off(at), rejected.split_off(at));
    Ok(Conversations { prompt: chosen, chosen: sides.0, rejected: sides.1 })
}

fn check_prompt(field: &'static str, messages: &[Message]) -> Result<(), Problem> {
    match messages.last() {
        Some(last) if last.role != "assistant" => Ok(()),
        _ => Err(Problem::Roles { field, expected: "a prompt that the assistant answers", got: roles(messages) }),
    }
}

fn check_completion(field: &'static str, messages: &[Message]) -> Result<(), Problem> {
    match (messages.first(), messages.last()) {
        (Some(first), Some(last)) if first.role == "assistant" && last.role == "assistant" => Ok(()),
        _ => {
            Err(Problem::Roles { field, expected: "to begin and end with an assistant message", got: roles(messages) })
        }
    }
}

fn roles(messages: &[Message]) -> String {
    if messages.is_empty() {
        return "no message".to_string();
    }
    let mut names: Vec<_> = messages.iter().take(8).map(|message| message.role.as_str()).collect();
    if messages.len() > names.len() {
        names.push("…");
    }
    names.join(", ")
}

/// A row's own id, where it has one.
fn row_id(row: &Map<String, Value>) -> Option<String> {
    ID.into_iter().find_map(|name| match row.get(name) {
        Some(Value::String(id)) if !id.is_empty() => Some(id.clone()),
        Some(Value::Number(id)) => Some(id.to_string()),
        _ => None,
    })
}

/// A field that is there and not null.
fn given<'a>(row: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    row.get(field).filter(|value| !value.is_null())
}

fn first_given<'a>(row: &'a Map<String, Value>, fields: &[&'static str]) -> Option<(&'static str, &'a Value)> {
    fields.iter().find_map(|&field| given(row, field).map(|value| (field, value)))
}

fn keys(row: &Map<String, Value>) -> Vec<String> {
    row.keys().cloned().collect()
}

fn nearest<'a>(names: impl IntoIterator<Item = &'a str>, wanted: &[&str]) -> Option<String> {
    names
        .into_iter()
        .filter(|name| !KNOWN.contains(name))
        .find_map(|name| Some((name, smpo_suggest::nearest(name, wanted.iter().copied())?)))
        .map(|(name, wanted)| format!("{wanted}` for `{name}"))
}

fn missing(row: &Map<String, Value>, field: &'static str) -> Problem {
    Problem::Missing { field, keys: keys(row), nearest: nearest(row.keys().map(String::as_str), &[field]) }
}

fn message_field(map: &Map<String, Value>, field: &str, name: &'static str) -> Problem {
    Problem::WrongType {
        field: field.to_string(),
        expected: if name == "role" { "a message with `role`" } else { "a message with `content`" },
        got: format!("one with {:?}", keys(map)),
    }
}

fn unknown_shape(row: &Map<String, Value>) -> Problem {
    Problem::UnknownShape { keys: keys(row), nearest: nearest(row.keys().map(String::as_str), &KNOWN) }
}

fn wrong_type(field: &str, expected: &'static str, got: &Value) -> Problem {
    Problem::WrongType { field: field.to_string(), expected, got: json_kind(got).to_string() }
}
