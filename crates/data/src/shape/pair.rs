//! Preference pairs.

use serde_json::{Number, Value};
use smpo_chat::{Message, TemplateInputs};

use super::answers::{Answer, answer};
use super::columns::{ABOUT_CHOSEN, ABOUT_REJECTED, COMPLETION, LABEL, PROMPT, SCORES};
use super::context::{Part, conversation, is_open_transcript, prompt, system};
use super::fields::Fields;
use super::finish::flag;
use super::join::{contradiction, holds, join, parting, same, turns};
use super::{Remarks, check_completion, check_prompt, missing, null, roles};
use crate::read_error::Problem;
use crate::record::{PreferencePair, Record};

/// A pair from its two answers, and from the columns of what is before them.
pub(super) fn pair(
    row: &mut Fields,
    chosen: Answer,
    rejected: Answer,
    inputs: TemplateInputs,
    remarks: &mut Remarks,
) -> Result<Record, Problem> {
    let conversation = match conversation(row, remarks)? {
        Some(conversation) => Some(without_answer(conversation, [&chosen, &rejected])?),
        None => None,
    };
    after(row, conversation, chosen, rejected, inputs, remarks)
}

/// A pair whose better answer ends the conversation, or is the row's only other answer (ms-swift).
pub(super) fn of_rejected(
    row: &mut Fields,
    rejected: (&'static str, Value),
    inputs: TemplateInputs,
    remarks: &mut Remarks,
) -> Result<Record, Problem> {
    let rejected = answer(rejected, &ABOUT_REJECTED, row, remarks)?;
    if let Some(chosen) = row.take_first(COMPLETION) {
        let chosen = answer(chosen, &ABOUT_CHOSEN, row, remarks)?;
        return pair(row, chosen, rejected, inputs, remarks);
    }
    let Some(Part { field, messages }) = conversation(row, remarks)? else { return Err(missing(row, "chosen")) };
    if rejected.is_whole() {
        return after(row, None, Answer { field, messages, is_text: false }, rejected, inputs, remarks);
    }
    let (messages, answer) = split_answer(field, messages)?;
    after(
        row,
        Some(Part { field, messages }),
        Answer { field, messages: answer, is_text: false },
        rejected,
        inputs,
        remarks,
    )
}

/// A pair after the conversation of its own column.
fn after(
    row: &mut Fields,
    conversation: Option<Part>,
    mut chosen: Answer,
    mut rejected: Answer,
    inputs: TemplateInputs,
    remarks: &mut Remarks,
) -> Result<Record, Problem> {
    if is_open_transcript(row) {
        [&mut chosen, &mut rejected].into_iter().for_each(Answer::strip_space);
    }
    if chosen.is_whole() && rejected.is_whole() {
        for name in PROMPT {
            row.take_if(name, |value| value.as_str() == Some(""));
        }
    }
    let known = match (prompt(row, remarks)?, conversation) {
        (Some(prompt), Some(conversation)) => Some(agreed(prompt, conversation)?),
        (prompt, conversation) => prompt.or(conversation),
    };
    if let Some(known) = &known
        && chosen.is_whole() != rejected.is_whole()
    {
        alone(if chosen.is_whole() { &mut chosen } else { &mut rejected }, known)?;
    }
    if known.is_none()
        && chosen.is_text
        && let Some(problem) = null(row, PROMPT)
    {
        return Err(problem);
    }
    let mut prompt = match known {
        Some(known) if !chosen.is_whole() => known.messages,
        known => {
            let field = chosen.field;
            let messages = common_beginning(&mut chosen, &mut rejected)?;
            match known {
                Some(known) => agreed(known, Part { field, messages })?.messages,
                None => messages,
            }
        }
    };
    if let Some(system) = system(row)? {
        prompt = with_system(system, prompt)?;
    }
    // that the better side is desirable is what a pair says anyway
    for name in LABEL {
        row.take_if(name, |label| flag(label) == Some(true));
    }
    remarks.reversed_scores = reversed_scores(row);
    let margin = row.take_if("margin", |margin| number(margin).is_some()).as_ref().and_then(number);
    check_prompt("prompt", &prompt)?;
    check_completion(&chosen)?;
    check_completion(&rejected)?;
    let (chosen, rejected) = (chosen.messages, rejected.messages);
    Ok(Record::Pair(PreferencePair { id: String::new(), prompt, inputs, chosen, rejected, margin }))
}

/// A number, as text too.
fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Columns with a score of each side, where the chosen one has the lower. They stay unread.
fn reversed_scores(row: &Fields) -> Option<String> {
    let lower = |[chosen, rejected]: [&str; 2]| {
        let [a, b] = [row.get(chosen)?, row.get(rejected)?];
        (a.as_f64()? < b.as_f64()?).then(|| format!("{chosen} {a}, {rejected} {b}"))
    };
    SCORES.into_iter().find_map(lower)
}

/// Two columns of one conversation as one.
pub(super) fn agreed(one: Part, other: Part) -> Result<Part, Problem> {
    let field = other.field;
    match join(one.messages, other.messages) {
        Ok(messages) => Ok(Part { field, messages }),
        // either may hold more of it
        Err((first, second)) => match join(second, first) {
            Ok(messages) => Ok(Part { field, messages }),
            Err((second, first)) => Err(contradiction(one.field, &first, field, &second)),
        },
    }
}

/// A conversation without the answer that it ends in, which must be one of the row's.
pub(super) fn without_answer<const N: usize>(
    Part { field, mut messages }: Part,
    answers: [&Answer; N],
) -> Result<Part, Problem> {
    let repeats = |answer: &&Answer| holds(&answer.messages, turns(&messages));
    if answers.iter().all(|answer| answer.is_whole()) && answers.iter().any(repeats) {
        // a repetition of one side, but for its system message
        messages.truncate(messages.len() - turns(&messages).len());
        return Ok(Part { field, messages });
    }
    if messages.last().is_none_or(|last| last.role != "assistant") {
        return Ok(Part { field, messages });
    }
    let (messages, answer) = split_answer(field, messages)?;
    let ends = |given: &&&Answer| {
        given.messages.len() >= answer.len()
            && given.messages.iter().rev().zip(answer.iter().rev()).all(|(a, b)| same(a, b))
    };
    match answers.iter().find(ends) {
        Some(_) => Ok(Part { field, messages }),
        None => Err(contradiction(field, &answer, answers[0].field, &answers[0].messages)),
    }
}

/// Leaves of a whole side the answer alone; what is before it must be known.
fn alone(side: &mut Answer, known: &Part) -> Result<(), Problem> {
    let (before, answer) = split_answer(side.field, std::mem::take(&mut side.messages))?;
    if !holds(turns(&known.messages), turns(&before)) {
        return Err(contradiction(known.field, &known.messages, side.field, &before));
    }
    side.messages = answer;
    Ok(())
}

/// A conversation and the answer that ends it; assistant messages in a row are one answer.
pub(super) fn split_answer(
    field: &'static str,
    mut messages: Vec<Message>,
) -> Result<(Vec<Message>, Vec<Message>), Problem> {
    let begun = messages.iter().rposition(|message| message.role != "assistant").map_or(0, |at| at + 1);
    if begun == 0 || begun == messages.len() {
        return Err(Problem::Roles {
            field,
            expected: "a conversation that ends with an assistant message after another's",
            got: roles(&messages),
        });
    }
    let answer = messages.split_off(begun);
    Ok((messages, answer))
}

/// Puts the system message of a column before a conversation.
pub(super) fn with_system(system: Part, mut prompt: Vec<Message>) -> Result<Vec<Message>, Problem> {
    match (&system.messages[..], prompt.first()) {
        ([message], Some(first)) if first.role == "system" => match same(message, first) {
            true => Ok(prompt),
            false => Err(contradiction(system.field, &system.messages, "prompt", &prompt)),
        },
        _ => {
            prompt.splice(0..0, system.messages);
            Ok(prompt)
        }
    }
}

/// Splits two conversations where they part: everything both share is the prompt.
fn common_beginning(chosen: &mut Answer, rejected: &mut Answer) -> Result<Vec<Message>, Problem> {
    if chosen.is_text {
        return Err(Problem::WrongType {
            field: chosen.field.to_string(),
            expected: "a row with `prompt`, a list of messages, or a \"\\n\\nHuman: …\\n\\nAssistant: …\" transcript",
            got: "a string, and no `prompt`".to_string(),
        });
    }
    let (a, b) = (&chosen.messages, &rejected.messages);
    let shared = a.iter().zip(b).take_while(|(a, b)| same(a, b)).count();
    let is_asked = |message: &Message| message.role != "assistant";
    if let (Some(one), Some(other)) = (a.get(shared), b.get(shared))
        && one.role == other.role
        && ["user", "system"].contains(&one.role.as_str())
    {
        return Err(parting((chosen.field, one), (rejected.field, other)));
    }
    // a prompt ends before an assistant message: two equal conversations still part before their last turn
    let begins = |at: usize| is_asked(&a[at - 1]) && at < a.len() && at < b.len();
    let Some(at) = (1..=shared).rev().find(|&at| begins(at)) else {
        return Err(Problem::Roles {
            field: chosen.field,
            expected: "a `prompt`, or conversations that begin with the same prompt in `chosen` and `rejected`",
            got: format!("{} against {}", roles(a), roles(b)),
        });
    };
    rejected.messages.drain(..at);
    let answer = chosen.messages.split_off(at);
    Ok(std::mem::replace(&mut chosen.messages, answer))
}
