//! Ends of answers: cut, or not.

use serde_json::Value;
use smpo_chat::Message;
use smpo_sampling::FinishReason;

use super::columns::About;
use super::fields::Fields;
use super::{Remarks, wrong_type};
use crate::read_error::Problem;

/// The end of an answer by the keys that tell it; `None` where nothing does, and then it counts as finished.
pub(super) fn ended(fields: &mut Fields, about: &About, remarks: &mut Remarks) -> Result<Option<bool>, Problem> {
    let finished = match fields.take(about.finished) {
        Some(value) => Some(flag(&value).ok_or_else(|| wrong_type(about.finished.into(), "true or false", &value))?),
        None => None,
    };
    let reason = fields.take_if(about.finish_reason, |value| !value.is_array());
    // vLLM writes the stop string or its token id beside `finish_reason`; alone it is the reason (Anthropic)
    let stop = fields.take(about.stop_reason);
    let by_reason = match (reason, stop) {
        (Some(Value::String(word)), _) => of_word(about.finish_reason, &word, remarks),
        (Some(other), _) => return Err(wrong_type(about.finish_reason.into(), "a string", &other)),
        (None, Some(Value::String(word))) => of_word(about.stop_reason, &word, remarks),
        (None, _) => None,
    };
    match (finished, by_reason) {
        (Some(flag), Some(reason)) if flag != reason => Err(Problem::Contradiction {
            one: format!("`{}` ({flag})", about.finished),
            other: format!("`{}`", about.finish_reason),
            remedy: "keep one",
        }),
        _ => Ok(finished.or(by_reason)),
    }
}

/// ELA's answer files: one reason per generated message, `generated_message_indices` says which those are.
pub(super) fn of_generated(
    fields: &mut Fields,
    conversation: &mut [Message],
    remarks: &mut Remarks,
) -> Result<(), Problem> {
    let Some(Value::Array(reasons)) = fields.take_if("finish_reason", Value::is_array) else { return Ok(()) };
    let indices = match fields.take("generated_message_indices") {
        Some(Value::Array(indices)) => indices.iter().filter_map(Value::as_u64).map(|at| at as usize).collect(),
        Some(other) => return Err(wrong_type("generated_message_indices".into(), "a list of numbers", &other)),
        None if reasons.len() == 1 => vec![conversation.len().saturating_sub(1)],
        None => Vec::new(),
    };
    if indices.len() != reasons.len() {
        return Err(Problem::WrongType {
            field: "finish_reason".into(),
            expected: "one reason for each of `generated_message_indices`",
            got: format!("{} for {}", reasons.len(), indices.len()),
        });
    }
    for (at, reason) in indices.into_iter().zip(&reasons) {
        let Some(message) = conversation.get_mut(at).filter(|message| message.role == "assistant") else {
            return Err(Problem::WrongType {
                field: "generated_message_indices".into(),
                expected: "indices of assistant messages",
                got: at.to_string(),
            });
        };
        let word = reason.as_str().ok_or_else(|| wrong_type("finish_reason".into(), "a list of strings", reason))?;
        if of_word("finish_reason", word, remarks) == Some(false) {
            message.finished = false;
        }
    }
    Ok(())
}

fn of_word(name: &str, word: &str, remarks: &mut Remarks) -> Option<bool> {
    let ended = FinishReason::of_word(word).and_then(FinishReason::ended);
    if ended.is_none() && !word.is_empty() {
        remarks.add_unclear_end(format!("{name} {word:?}"));
    }
    ended
}

/// True or false, as JSON, Python, pandas and spreadsheets write it.
pub(super) fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}
