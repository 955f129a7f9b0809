//! A record from a JSON object of any common layout (docs/data.md has the table).
//!
//! Readers take keys out of the row ([`fields::Fields`]); what nothing has taken is a remark, or an error where it is
//! known to carry a part of the conversation.

mod answers;
mod classified;
mod columns;
mod context;
mod fields;
mod finish;
mod group;
mod inputs;
mod join;
mod judged;
mod media;
mod message;
mod pair;
mod remarks;
mod scored;
mod single;
mod speakers;
mod spelt;
mod table;
mod transcript;
mod wrapped;

use serde_json::{Map, Value};
use smpo_chat::Message;

use self::answers::{Answer, answer};
use self::columns::{
    ABOUT_CHOSEN, ABOUT_REJECTED, BEGINNING, CARRIERS, CHOSEN, COMPLETION, COMPLETIONS, CONVERSATION, ID, OF_A_ROW,
    PROMPT, REJECTED, REJECTED_ALONE, REWARDS,
};
use self::fields::Fields;
use self::speakers::speaker;
use crate::lenient;
use crate::read_error::Problem;
use crate::record::Record;

pub(crate) use classified::record_with_labels;
pub(crate) use columns::is_carried;
pub(crate) use judged::LAYOUTS as JUDGED;
pub use remarks::Remarks;

/// The record a row holds, with remarks on its reading.
pub(crate) fn record(row: Map<String, Value>) -> Result<(Record, Remarks), Problem> {
    record_as(row, classified::is_classified)
}

/// The record a row holds; `has_labels` tells a row that is a text with labels.
fn record_as(row: Map<String, Value>, has_labels: impl Fn(&Fields) -> bool) -> Result<(Record, Remarks), Problem> {
    let mut row = Fields::new(row);
    let mut remarks = Remarks::default();
    if table::is_table(&row) {
        return Err(Problem::NotRows { got: table::COLUMNS.to_string() });
    }
    if REJECTED.iter().chain(CHOSEN).any(|name| row.get(name).is_some())
        && let Some(Value::Object(request)) = row.take_if("input", Value::is_object)
    {
        row.unfold("input", request);
    }
    let id = id(&mut row);
    let mut record = match has_labels(&row) {
        true => classified::classified(&mut row, &mut remarks)?,
        false => with_answers(&mut row, &mut remarks)?,
    };
    media::media(&mut row, record.prompt(), &mut remarks)?;
    weight(&mut row);
    if let Some((name, value, remedy)) = row.left().find_map(|(name, value)| {
        CARRIERS.iter().find(|(known, _)| *known == name).map(|(_, remedy)| (name, value, *remedy))
    }) {
        return Err(Problem::Unsupported {
            field: name.to_string(),
            got: format!("{} that nothing in a row of this layout reads", lenient::kind(value)),
            remedy,
        });
    }
    row.note_unread("", &mut remarks);
    let id = id.unwrap_or_else(|| format!("{:016x}", record.content_hash()));
    match &mut record {
        Record::Pair(row) => row.id = id,
        Record::Group(row) => row.id = id,
        Record::Unpaired(row) => row.id = id,
        Record::Example(row) => row.id = id,
        Record::Classified(row) => row.id = id,
    }
    Ok((record, remarks))
}

/// A record with answers: a pair, a group, or one with one answer.
fn with_answers(row: &mut Fields, remarks: &mut Remarks) -> Result<Record, Problem> {
    let inputs = inputs::inputs(row)?;
    let chosen = row.take_first(CHOSEN);
    let rejected = row.take_first(REJECTED);
    match (chosen, rejected) {
        (Some(chosen), Some(rejected)) => {
            let mut chosen = answer(chosen, &ABOUT_CHOSEN, row, remarks)?;
            let mut rejected = answer(rejected, &ABOUT_REJECTED, row, remarks)?;
            if let Some(Value::String(beginning)) = row.take_if(BEGINNING, Value::is_string) {
                [&mut chosen, &mut rejected].into_iter().for_each(|answer| answer.begin_with(&beginning));
            }
            pair::pair(row, chosen, rejected, inputs, remarks)
        }
        (Some(_), None) => Err(missing(row, "rejected")),
        (None, Some(rejected)) if REJECTED_ALONE.contains(&rejected.0) => {
            pair::of_rejected(row, rejected, inputs, remarks)
        }
        (None, Some(_)) => Err(missing(row, "chosen")),
        (None, None) if COMPLETION.iter().all(|name| row.get(name).is_none()) => {
            if let Some((chosen, rejected)) = judged::answers(row, remarks)? {
                return pair::pair(row, chosen, rejected, inputs, remarks);
            }
            if let Some(scored) = scored::scored(row, remarks) {
                return group::of_scored(row, scored, inputs, remarks);
            }
            match group::answers(row) {
                Some(answers) => group::group(row, answers, inputs, remarks),
                None => single::single(row, inputs, remarks),
            }
        }
        (None, None) => single::single(row, inputs, remarks),
    }
}

/// A row's own id, where it has one.
fn id(row: &mut Fields) -> Option<String> {
    ID.iter().find_map(|name| {
        match row.take_if(name, |value| value.is_number() || value.as_str().is_some_and(|id| !id.is_empty()))? {
            Value::String(id) => Some(id),
            other => Some(other.to_string()),
        }
    })
}

/// A weight of 1 says nothing.
fn weight(row: &mut Fields) {
    row.take_if("weight", |weight| weight.as_f64() == Some(1.0));
}

fn check_prompt(field: &'static str, messages: &[Message]) -> Result<(), Problem> {
    match messages.last() {
        Some(last) if last.role != "assistant" => Ok(()),
        _ => Err(Problem::Roles { field, expected: "a prompt that the assistant answers", got: roles(messages) }),
    }
}

fn check_completion(answer: &Answer) -> Result<(), Problem> {
    let Answer { field, messages, .. } = answer;
    match (messages.first(), messages.last()) {
        (Some(first), Some(last)) if first.role == "assistant" && last.role == "assistant" => Ok(()),
        _ => {
            Err(Problem::Roles { field, expected: "to begin and end with an assistant message", got: roles(messages) })
        }
    }
}

/// The roles of messages, with a word for those that are names of other speakers.
fn roles(messages: &[Message]) -> String {
    if messages.is_empty() {
        return "no message".to_string();
    }
    let other = messages.iter().map(|message| message.role.as_str()).find(|role| speaker(role).is_none());
    let remedy = other.map_or_else(String::new, |name| {
        format!("; `dataset_columns.roles` says which role a speaker such as {name:?} is")
    });
    let mut names: Vec<_> = messages.iter().take(8).map(|message| message.role.as_str()).collect();
    if messages.len() > names.len() {
        names.push("…");
    }
    format!("{}{remedy}", names.join(", "))
}

fn keys(row: &Fields) -> Vec<String> {
    row.names().map(str::to_string).collect()
}

fn nearest(row: &Fields, wanted: &[&str]) -> Option<String> {
    let known = OF_A_ROW.concat();
    row.names()
        .filter(|name| !known.contains(name))
        .find_map(|name| Some((name, smpo_suggest::nearest(name, wanted.iter().copied())?)))
        .map(|(name, wanted)| format!("{wanted}` for `{name}"))
}

fn missing(row: &Fields, field: &'static str) -> Problem {
    let known = [CHOSEN, REJECTED, PROMPT, REWARDS].into_iter().find(|names| names.contains(&field));
    if let Some(problem) = null(row, known.unwrap_or(&[field])) {
        return problem;
    }
    Problem::Missing { field, keys: keys(row), nearest: nearest(row, &[field]) }
}

fn unknown_layout(row: &Fields) -> Problem {
    if let Some(path) = wrapped::path(row) {
        return Problem::Wrapped { path };
    }
    if let Some(field) = judged::verdict_of_none(row) {
        return missing(row, field);
    }
    if let Some(problem) = null(row, &[CHOSEN, REJECTED, COMPLETION, &[COMPLETIONS], CONVERSATION, PROMPT].concat()) {
        return problem;
    }
    let wanted = [&["chosen", "rejected", "completion"], CONVERSATION, PROMPT].concat();
    Problem::UnknownShape { keys: keys(row), nearest: nearest(row, &wanted) }
}

/// The problem of the first of several columns that is null.
fn null(row: &Fields, names: &[&str]) -> Option<Problem> {
    let field = names.iter().find(|name| row.is_null(name))?.to_string();
    Some(Problem::Unsupported { field, got: "null".to_string(), remedy: "give it a value, or leave the row out" })
}

fn wrong_type(field: String, expected: &'static str, got: &Value) -> Problem {
    Problem::WrongType { field, expected, got: lenient::kind(got).to_string() }
}
