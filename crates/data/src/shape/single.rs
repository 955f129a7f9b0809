//! Rows with one answer: instruction examples, and labelled completions.

use smpo_chat::{Message, TemplateInputs};

use super::answers::{Answer, answer, attributes};
use super::columns::{ABOUT_COMPLETION, ABOUT_IT, COMPLETION, LABEL};
use super::context::{Part, conversation, is_open_transcript, prompt, system};
use super::fields::Fields;
use super::finish::flag;
use super::join::same_text;
use super::pair::{agreed, split_answer, with_system, without_answer};
use super::{Remarks, check_completion, check_prompt, unknown_layout, wrong_type};
use crate::read_error::Problem;
use crate::record::{Example, Record, UnpairedExample};

/// A record with one answer.
pub(super) fn single(row: &mut Fields, inputs: TemplateInputs, remarks: &mut Remarks) -> Result<Record, Problem> {
    let is_open = is_open_transcript(row);
    let explicit = prompt(row, remarks)?;
    let conversation = conversation(row, remarks)?;
    unread_result(row, conversation.as_ref(), remarks);
    let completion = match row.take_first(COMPLETION) {
        Some(value) => {
            let mut completion = answer(value, &ABOUT_COMPLETION, row, remarks)?;
            if is_open {
                completion.strip_space();
            }
            Some(completion)
        }
        None => None,
    };
    // a prompt that is the first question alone, beside the whole conversation, excludes no answer (UltraChat)
    let is_question = |prompt: &Part| prompt.messages.iter().all(|message| message.role != "assistant");
    let is_conversation = completion.is_none() && explicit.as_ref().is_none_or(is_question);
    let (mut prompt, mut completion) = match (explicit, conversation, completion) {
        (prompt, None, Some(whole)) if whole.is_whole() => {
            let field = whole.field;
            let (messages, answer) = split_answer(field, whole.messages)?;
            let before = Part { field, messages };
            let prompt = match prompt {
                Some(prompt) => agreed(prompt, before)?,
                None => before,
            };
            (prompt, Answer { field, messages: answer, is_text: false })
        }
        (None, None, _) => return Err(unknown_layout(row)),
        (Some(_), None, None) => return Err(unknown_layout(row)),
        (Some(prompt), None, Some(completion)) => (prompt, completion),
        (None, Some(conversation), Some(completion)) => (without_answer(conversation, [&completion])?, completion),
        (Some(prompt), Some(conversation), Some(completion)) => {
            (agreed(prompt, without_answer(conversation, [&completion])?)?, completion)
        }
        (prompt, Some(Part { field, messages }), None) => {
            let (messages, answer) = split_answer(field, messages)?;
            let conversation = Part { field, messages };
            let prompt = match prompt {
                Some(prompt) => agreed(prompt, conversation)?,
                None => conversation,
            };
            (prompt, Answer { field, messages: answer, is_text: false })
        }
    };
    attributes(row, &ABOUT_IT, &mut completion.messages, remarks)?;
    let label = label(row)?;
    // a label judges the last answer, and a prompt of its own is not learned
    if is_conversation && label.is_none() {
        every_answer(&mut prompt.messages, &mut completion.messages);
    }
    let prompt = match system(row)? {
        Some(system) => Part { messages: with_system(system, prompt.messages)?, ..prompt },
        None => prompt,
    };
    check_prompt(prompt.field, &prompt.messages)?;
    check_completion(&completion)?;
    Ok(of(label, prompt.messages, completion.messages, inputs))
}

/// Sets aside the result or the reference solution beside a conversation that has its answer (OpenR1-Math).
fn unread_result(row: &mut Fields, conversation: Option<&Part>, remarks: &mut Remarks) {
    let Some(answer) = conversation.and_then(|part| part.messages.last()).filter(|last| last.role == "assistant")
    else {
        return;
    };
    for name in ["solution", "answer"] {
        if row.take_if(name, |value| value.as_str().is_some_and(|text| !same_text(text, &answer.content))).is_some() {
            remarks.add_unread(name.to_owned());
        }
    }
}

/// Moves the first answer of a conversation and all that follows it from the prompt to the completion.
fn every_answer(prompt: &mut Vec<Message>, completion: &mut Vec<Message>) {
    let is_answer = |two: &[Message]| two[0].role != "assistant" && two[1].role == "assistant";
    if let Some(at) = prompt.windows(2).position(is_answer) {
        completion.splice(0..0, prompt.drain(at + 1..));
    }
}

fn of(label: Option<bool>, prompt: Vec<Message>, completion: Vec<Message>, inputs: TemplateInputs) -> Record {
    let id = String::new();
    match label {
        None => Record::Example(Example { id, prompt, inputs, completion }),
        Some(label) => Record::Unpaired(UnpairedExample { id, prompt, inputs, completion, label }),
    }
}

/// Desirable or not, under any of its names.
fn label(row: &mut Fields) -> Result<Option<bool>, Problem> {
    let mut found = None;
    for &name in LABEL {
        let Some(value) = row.take(name) else { continue };
        let label = flag(&value).ok_or_else(|| match value.as_str() {
            Some(text) => {
                Problem::WrongType { field: name.into(), expected: "true or false", got: format!("{text:?}") }
            }
            None if value.is_number() => {
                Problem::WrongType { field: name.into(), expected: "true or false, 1 or 0", got: value.to_string() }
            }
            None => wrong_type(name.into(), "true or false", &value),
        })?;
        match found {
            Some(known) if known != label => {
                return Err(Problem::Contradiction {
                    one: format!("`{name}`"),
                    other: "another label of this row".to_string(),
                    remedy: "keep one",
                });
            }
            _ => found = Some(label),
        }
    }
    Ok(found)
}
