//! Rows with labels: a text or a whole conversation, whoever speaks last.

use serde_json::{Map, Value};
use smpo_chat::Message;

use super::answers::answer;
use super::columns::{ABOUT_COMPLETION, CHOSEN, COMPLETION, COMPLETIONS, CONVERSATION, PROMPT, REJECTED};
use super::context::{Part, conversation, prompt, system};
use super::fields::Fields;
use super::finish::flag;
use super::inputs::inputs;
use super::judged::is_judged;
use super::pair::{agreed, with_system};
use super::{Remarks, missing, wrong_type};
use crate::lenient;
use crate::read_error::Problem;
use crate::record::{ClassifiedText, Record};

/// Columns of labels: one, or several.
const LABEL: &str = "label";
const LABELS: &str = "labels";
/// A text without speakers.
const TEXT: &str = "text";

/// True for a row that can be nothing else: its label is no judgement of an answer, or there is no answer that it judges.
pub(super) fn is_classified(row: &Fields) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| row.get(name).is_some());
    if has(CHOSEN) || has(REJECTED) || has(&[COMPLETIONS]) || is_judged(row) {
        return false;
    }
    let is_text = |label: &Value| label.is_string() && flag(label).is_none();
    match row.get(LABEL) {
        _ if row.get(LABELS).is_some() => true,
        None => false,
        Some(label) if label.is_array() => true,
        // beside an answer of its own a text is a judgement misspelt
        Some(label) => {
            // an answer that is null was to be judged
            let is_judged = flag(label).is_some() && COMPLETION.iter().any(|name| row.is_null(name));
            let is_prompt = has(PROMPT) && !has(CONVERSATION) && !is_judged;
            !has(COMPLETION) && (is_text(label) || has(&[TEXT]) || is_prompt)
        }
    }
}

/// True for a row that is read as one where labels are asked for: every one but pairs and groups.
pub(super) fn may_be_classified(row: &Fields) -> bool {
    [CHOSEN, REJECTED, &[COMPLETIONS]].concat().iter().all(|name| row.get(name).is_none()) && !is_judged(row)
}

/// A text or conversation with its labels, where it has some.
pub(super) fn classified(row: &mut Fields, remarks: &mut Remarks) -> Result<Record, Problem> {
    let inputs = inputs(row)?;
    let (label, labels) = labels(row)?;
    let text = match row.take(TEXT) {
        None => None,
        Some(Value::String(text)) if !text.trim().is_empty() => Some(text),
        Some(Value::String(_)) => {
            let got = "an empty one".to_owned();
            return Err(Problem::WrongType { field: TEXT.into(), expected: "a text", got });
        }
        Some(other) => return Err(wrong_type(TEXT.into(), "a text", &other)),
    };
    let messages = if text.is_none() { whole(row, remarks)? } else { Vec::new() };
    Ok(Record::Classified(ClassifiedText { id: String::new(), text, messages, inputs, label, labels }))
}

/// The whole conversation, from the columns that hold parts of it.
fn whole(row: &mut Fields, remarks: &mut Remarks) -> Result<Vec<Message>, Problem> {
    let known = match (prompt(row, remarks)?, conversation(row, remarks)?) {
        (Some(prompt), Some(conversation)) => Some(agreed(prompt, conversation)?),
        (prompt, conversation) => prompt.or(conversation),
    };
    let Some(Part { messages, .. }) = known.filter(|part| !part.messages.is_empty()) else {
        return Err(missing(row, TEXT));
    };
    let mut messages = match system(row)? {
        Some(system) => with_system(system, messages)?,
        None => messages,
    };
    if let Some(given) = row.take_first(COMPLETION) {
        messages.append(&mut answer(given, &ABOUT_COMPLETION, row, remarks)?.messages);
    }
    Ok(messages)
}

type Given = (Option<String>, Option<Vec<String>>);

/// The label or the labels of a row.
fn labels(row: &mut Fields) -> Result<Given, Problem> {
    let (name, value) = match (row.take(LABEL), row.take(LABELS)) {
        (None, None) => return Ok((None, None)),
        (Some(value), None) => (LABEL, value),
        (None, Some(value)) => (LABELS, value),
        (Some(_), Some(_)) => {
            let (one, other) = (format!("`{LABEL}`"), format!("`{LABELS}`"));
            return Err(Problem::Contradiction { one, other, remedy: "keep one" });
        }
    };
    let Value::Array(items) = value else { return Ok((Some(label(name.to_owned(), value)?), None)) };
    let mut several: Vec<String> = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let one = label(format!("{name}[{at}]"), item)?;
        if several.contains(&one) {
            let field = name.to_owned();
            let expected = "the labels of the row, each once (a vector of zeros and ones is not read)";
            return Err(Problem::WrongType { field, expected, got: format!("{one:?} twice") });
        }
        several.push(one);
    }
    Ok((None, Some(several)))
}

/// A label as text.
fn label(field: String, value: Value) -> Result<String, Problem> {
    const EXPECTED: &str = "a label: a text, a whole number, or true or false";
    let wrong = |got: String| Err(Problem::WrongType { field: field.clone(), expected: EXPECTED, got });
    match &value {
        Value::String(text) if text.trim().is_empty() => wrong("an empty text".to_owned()),
        Value::String(text) => Ok(text.clone()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Number(number) => match number.as_f64().filter(|number| number.fract() == 0.0) {
            Some(-1.0) => wrong("-1, which marks a row without a label: leave it out".to_owned()),
            // Parquet files have labels as floating-point numbers where some are missing
            Some(whole) if whole.abs() < (1u64 << 53) as f64 => Ok(format!("{whole:.0}")),
            _ => wrong(number.to_string()),
        },
        other => wrong(lenient::kind(other).to_string()),
    }
}

/// The record of a row whose labels are asked for.
pub(crate) fn record_with_labels(row: Map<String, Value>) -> Result<(Record, Remarks), Problem> {
    super::record_as(row, may_be_classified)
}
