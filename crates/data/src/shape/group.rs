//! Groups: several answers to one prompt, each with a reward.

use serde_json::Value;
use smpo_chat::TemplateInputs;
use smpo_sampling::FinishReason;

use super::answers::bare_answer;
use super::columns::{COMPLETIONS, CONVERSATION, REWARDS};
use super::context::{Part, conversation, prompt, system};
use super::fields::Fields;
use super::finish::flag;
use super::pair::{agreed, pair, with_system};
use super::scored::Scored;
use super::{Remarks, check_completion, check_prompt, missing, wrong_type};
use crate::read_error::Problem;
use crate::record::{Record, ScoredGroup};

/// Columns that tell the ends of all answers, a list each.
const FINISHED: &str = "finished";
const FINISH_REASONS: &[&str] = &["finish_reasons", "finish_reason"];

/// The answers of a row that is a group: its rewards say so, or that it has no conversation of its own.
pub(super) fn answers(row: &mut Fields) -> Option<Value> {
    let has = |names: &[&str]| names.iter().any(|name| row.get(name).is_some());
    let is_group = has(REWARDS) || !has(CONVERSATION);
    is_group.then(|| row.take(COMPLETIONS)).flatten()
}

/// A group, from its answers and the columns beside them.
pub(super) fn group(
    row: &mut Fields,
    completions: Value,
    inputs: TemplateInputs,
    remarks: &mut Remarks,
) -> Result<Record, Problem> {
    let Value::Array(answers) = completions else {
        return Err(wrong_type(COMPLETIONS.into(), "a list of answers", &completions));
    };
    let rewards = rewards(row, answers.len())?;
    rewarded(row, answers, rewards, inputs, remarks)
}

/// A group of answers that each brought a score; a pair, of two that were ranked.
pub(super) fn of_scored(
    row: &mut Fields,
    scored: Scored,
    inputs: TemplateInputs,
    remarks: &mut Remarks,
) -> Result<Record, Problem> {
    let Scored { answers, rewards, is_ranked } = scored;
    match (<[Value; 2]>::try_from(answers), &rewards[..]) {
        (Ok([first, second]), &[a, b]) if is_ranked && a != b => {
            let (chosen, rejected) = if a > b { (first, second) } else { (second, first) };
            let chosen = bare_answer((COMPLETIONS, chosen), remarks)?;
            let rejected = bare_answer((COMPLETIONS, rejected), remarks)?;
            pair(row, chosen, rejected, inputs, remarks)
        }
        (Ok(answers), _) => rewarded(row, answers.into(), rewards, inputs, remarks),
        (Err(answers), _) => rewarded(row, answers, rewards, inputs, remarks),
    }
}

fn rewarded(
    row: &mut Fields,
    answers: Vec<Value>,
    rewards: Vec<f64>,
    inputs: TemplateInputs,
    remarks: &mut Remarks,
) -> Result<Record, Problem> {
    let ends = ends(row, answers.len(), remarks)?;
    let mut completions = Vec::with_capacity(answers.len());
    for (at, (value, finished)) in answers.into_iter().zip(ends).enumerate() {
        let mut answer = bare_answer((COMPLETIONS, value), remarks).map_err(|problem| place(problem, at))?;
        if let (Some(false), Some(last)) = (finished, answer.messages.last_mut()) {
            last.finished = false;
        }
        check_completion(&answer).map_err(|problem| place(problem, at))?;
        completions.push(answer.messages);
    }
    let known = match (prompt(row, remarks)?, conversation(row, remarks)?) {
        (Some(prompt), Some(conversation)) => agreed(prompt, conversation)?,
        (prompt, conversation) => prompt.or(conversation).ok_or_else(|| missing(row, "prompt"))?,
    };
    let Part { field, messages } = match system(row)? {
        Some(system) => Part { messages: with_system(system, known.messages)?, ..known },
        None => known,
    };
    check_prompt(field, &messages)?;
    Ok(Record::Group(ScoredGroup { id: String::new(), prompt: messages, inputs, completions, rewards }))
}

/// A finite number for each answer.
fn rewards(row: &mut Fields, answers: usize) -> Result<Vec<f64>, Problem> {
    let Some((field, value)) = row.take_first(REWARDS) else { return Err(missing(row, "rewards")) };
    let Value::Array(values) = value else { return Err(wrong_type(field.into(), "a list of numbers", &value)) };
    same_number(field, values.len(), answers)?;
    let of = |(at, value): (usize, &Value)| {
        let number = value.as_f64().filter(|number| number.is_finite());
        number.ok_or_else(|| wrong_type(format!("{field}[{at}]"), "a finite number", value))
    };
    values.iter().enumerate().map(of).collect()
}

/// True or false for an answer that says if it ended, by either column.
fn ends(row: &mut Fields, answers: usize, remarks: &mut Remarks) -> Result<Vec<Option<bool>>, Problem> {
    let mut ends = vec![None; answers];
    if let Some(value) = row.take(FINISHED) {
        let Value::Array(flags) = value else { return Err(wrong_type(FINISHED.into(), "a list of flags", &value)) };
        same_number(FINISHED, flags.len(), answers)?;
        for (at, (end, value)) in ends.iter_mut().zip(&flags).enumerate().filter(|(_, (_, value))| !value.is_null()) {
            let wrong = || wrong_type(format!("{FINISHED}[{at}]"), "true, false or null", value);
            *end = Some(flag(value).ok_or_else(wrong)?);
        }
    }
    let Some((field, value)) = row.take_first(FINISH_REASONS) else { return Ok(ends) };
    let Value::Array(reasons) = value else { return Err(wrong_type(field.into(), "a list of reasons", &value)) };
    same_number(field, reasons.len(), answers)?;
    for (at, (end, value)) in ends.iter_mut().zip(&reasons).enumerate().filter(|(_, (_, value))| !value.is_null()) {
        let Some(word) = value.as_str() else { return Err(wrong_type(format!("{field}[{at}]"), "a string", value)) };
        let ended = FinishReason::of_word(word).and_then(FinishReason::ended);
        match (*end, ended) {
            (_, None) if !word.is_empty() => remarks.add_unclear_end(format!("{field} {word:?}")),
            (Some(one), Some(other)) if one != other => {
                return Err(Problem::Contradiction {
                    one: format!("`{FINISHED}[{at}]` ({one})"),
                    other: format!("`{field}[{at}]`"),
                    remedy: "keep one",
                });
            }
            (known, ended) => *end = known.or(ended),
        }
    }
    Ok(ends)
}

fn same_number(field: &str, got: usize, answers: usize) -> Result<(), Problem> {
    if got == answers && answers > 0 {
        return Ok(());
    }
    let (field, expected) = match answers {
        0 => (COMPLETIONS.to_string(), "at least one answer"),
        _ => (field.to_string(), "one entry for each of `completions`"),
    };
    Err(Problem::WrongType { field, expected, got: format!("{got} for {answers}") })
}

/// A problem of one answer, with its place.
fn place(problem: Problem, at: usize) -> Problem {
    match problem {
        Problem::WrongType { field, expected, got } if field == COMPLETIONS => {
            Problem::WrongType { field: format!("{COMPLETIONS}[{at}]"), expected, got }
        }
        Problem::WrongType { field, expected, got } => {
            let rest = field.strip_prefix(COMPLETIONS).unwrap_or(&field).to_string();
            Problem::WrongType { field: format!("{COMPLETIONS}[{at}]{rest}"), expected, got }
        }
        Problem::Roles { expected, got, .. } => {
            Problem::WrongType { field: format!("{COMPLETIONS}[{at}]"), expected, got }
        }
        other => other,
    }
}
