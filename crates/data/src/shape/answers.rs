//! Answers: a side of a pair, or the one completion.

use serde_json::Value;
use smpo_chat::Message;

use super::columns::{ABOUT_IT, About, COMPLETION, REASONING};
use super::fields::Fields;
use super::finish::ended;
use super::message::{message, messages};
use super::spelt::unquoted;
use super::transcript::transcript;
use super::{Remarks, wrong_type};
use crate::lenient::is_object;
use crate::read_error::Problem;

/// An answer with the column it came from.
#[derive(Debug)]
pub(super) struct Answer {
    pub field: &'static str,
    pub messages: Vec<Message>,
    /// True for a text without a speaker.
    pub is_text: bool,
}

impl Answer {
    /// Takes off the space between "Assistant:" and a text that goes on there.
    pub fn strip_space(&mut self) {
        if let ([message], true) = (&mut self.messages[..], self.is_text)
            && let Some(text) = message.content.strip_prefix(' ')
        {
            message.content = text.to_owned();
        }
    }

    /// Puts a text before that of an answer without a speaker.
    pub fn begin_with(&mut self, beginning: &str) {
        if let ([message], true) = (&mut self.messages[..], self.is_text) {
            message.content.insert_str(0, beginning);
        }
    }

    /// True for a whole conversation, which begins with a question.
    pub fn is_whole(&self) -> bool {
        self.messages.first().is_some_and(|first| first.role != "assistant")
    }
}

/// Reads an answer; what columns say about it goes into its last message.
pub(super) fn answer(
    given: (&'static str, Value),
    about: &About,
    row: &mut Fields,
    remarks: &mut Remarks,
) -> Result<Answer, Problem> {
    let mut answer = bare_answer(given, remarks)?;
    if !row.is_spent() {
        attributes(row, about, &mut answer.messages, remarks)?;
    }
    Ok(answer)
}

/// Reads an answer without columns about it: one text, a transcript, one message, messages, the JSON of either, or a
/// response of OpenAI's API.
pub(super) fn bare_answer((field, value): (&'static str, Value), remarks: &mut Remarks) -> Result<Answer, Problem> {
    let value = unquoted(value, field)?;
    let is_string = value.is_string();
    let messages = match value {
        Value::String(text) => transcript(&text).unwrap_or_else(|| vec![Message::assistant(text)]),
        Value::Object(map) if map.contains_key("choices") => vec![response(Fields::new(map), field, remarks)?],
        Value::Array(choices) if field == "choices" => vec![choice(choices, field, remarks)?],
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_string) => {
            let expected = match COMPLETION.contains(&field) {
                true => "one answer; a better and a worse one are given as `chosen` and `rejected`",
                false => "one answer in a row",
            };
            return Err(Problem::WrongType {
                field: field.to_string(),
                expected,
                got: format!("a list of {} texts", items.len()),
            });
        }
        value if is_object(&value) => vec![message(value, field, remarks)?],
        other => messages(other, field, remarks)?,
    };
    let is_text = is_string && messages.len() == 1 && messages[0].role == "assistant";
    Ok(Answer { field, messages, is_text })
}

/// Takes the columns about an answer: its end, and its reasoning.
pub(super) fn attributes(
    row: &mut Fields,
    about: &About,
    messages: &mut [Message],
    remarks: &mut Remarks,
) -> Result<(), Problem> {
    let Some(last) = messages.last_mut().filter(|last| last.role == "assistant") else { return Ok(()) };
    if ended(row, about, remarks)? == Some(false) {
        last.finished = false;
    }
    for name in about.reasoning {
        // whether a model was to reason, which is no reasoning (Nemotron)
        if row.take_if(name, is_switch).is_some() {
            remarks.add_unread(name.to_owned());
        }
        match row.take(name) {
            None => {}
            Some(Value::String(text)) => match last.fields.get(REASONING[0]) {
                Some(known) if *known != text => {
                    let one = format!("`{name}`");
                    let other = "another reasoning of this answer".to_string();
                    return Err(Problem::Contradiction { one, other, remedy: "keep one" });
                }
                _ => {
                    last.fields.insert(REASONING[0].into(), text.into());
                }
            },
            Some(other) => return Err(wrong_type(name.into(), "a string", &other)),
        }
    }
    Ok(())
}

/// True for a setting that is on or off.
fn is_switch(value: &Value) -> bool {
    let word = value.as_str().map(str::to_lowercase);
    value.is_boolean() || word.is_some_and(|word| ["on", "off", "true", "false"].contains(&word.as_str()))
}

/// A response of OpenAI's chat API, stored as it came.
fn response(mut response: Fields, field: &'static str, remarks: &mut Remarks) -> Result<Message, Problem> {
    let read = match response.take("choices") {
        Some(Value::Array(choices)) => choice(choices, field, remarks),
        other => Err(wrong_type(format!("{field}.choices"), "a list", &other.unwrap_or_default())),
    };
    response.note_unread(&format!("{field}."), remarks);
    read
}

/// The only choice of a response.
fn choice(choices: Vec<Value>, field: &'static str, remarks: &mut Remarks) -> Result<Message, Problem> {
    let place = if field == "choices" { "choices".to_string() } else { format!("{field}.choices") };
    let [choice] = <[Value; 1]>::try_from(choices).map_err(|choices| Problem::WrongType {
        field: place.clone(),
        expected: "one choice",
        got: choices.len().to_string(),
    })?;
    let Value::Object(map) = choice else { return Err(wrong_type(place, "a choice with `message`", &choice)) };
    let mut choice = Fields::new(map);
    let mut read = match choice.take("message") {
        Some(value) => message(value, &format!("{place}[0].message"), remarks)?,
        None => return Err(wrong_type(format!("{place}[0].message"), "a message", &Value::Null)),
    };
    if ended(&mut choice, &ABOUT_IT, remarks)? == Some(false) {
        read.finished = false;
    }
    choice.note_unread(&format!("{place}[]."), remarks);
    Ok(read)
}
