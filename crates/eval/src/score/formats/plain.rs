//! Lines with a prompt and a completion under any of their usual names, or a conversation that ends with the
//! assistant: Hugging Face TRL, ShareGPT, flexeval, outputs of vLLM, SGLang and text-generation-inference.

use serde_json::Value;
use smpo_chat::{Content, json_kind};
use smpo_results::FinishReason;

use super::api;
use crate::conversation::{conversation, is_assistant, written};
use crate::json_rows::{Row, count, error_text, first, given, text};
use crate::prompts;
use crate::score::record::Record;

const COMPLETION: [&str; 23] = [
    "completion",
    "response",
    "generated_text",
    "prediction",
    "generation",
    "generated",
    "model_output",
    "model_response",
    "model_answer",
    "lm_output",
    // LLaMA-Factory, DeepEval, Bedrock
    "predict",
    "pred",
    "actual_output",
    "modelOutput",
    // the gold answer in a data set, and so behind the names that can only be the model's
    "output",
    "answer",
    // several samples
    "completions",
    "outputs",
    "responses",
    "answers",
    "generations",
    "predictions",
    "samples",
];

/// Fields that are the completion where no other is, and else the gold answer of the data set that it was added to.
const GOLD: [&str; 2] = ["output", "answer"];

const CONVERSATION: [&str; 4] = ["messages", "conversations", "conversation", "prompt"];

/// True if a row has a completion, or says why there is none.
pub(super) fn fits(row: &Row) -> bool {
    field(row).is_some() || answer(row).is_some() || row.contains_key("prompt") && row.contains_key("error")
}

/// The field of the completion, null or not. `text` is one only beside a prompt, or in SGLang's own output.
fn field(row: &Row) -> Option<&'static str> {
    let given = COMPLETION.into_iter().find(|name| given(row, name).is_some());
    let beside =
        || ["prompt", "question", "instruction", "messages", "meta_info"].iter().any(|name| row.contains_key(*name));
    given
        .or_else(|| (row.contains_key("text") && beside()).then_some("text"))
        .or_else(|| COMPLETION.into_iter().find(|name| row.contains_key(*name)))
}

/// A field that may be taken for the completion and is not, beside the one that is: both texts, and not the same.
pub(in crate::score) fn passed_over(row: &Row) -> Option<(&'static str, &'static str)> {
    let used = field(row).filter(|used| !GOLD.contains(used))?;
    let other =
        GOLD.into_iter().find(|name| row.get(*name).is_some_and(Value::is_string) && row[*name] != row[used])?;
    row[used].is_string().then_some((used, other))
}

/// The last message of a conversation that the model ended.
fn answer(row: &Row) -> Option<&Row> {
    let messages = CONVERSATION.iter().find_map(|name| row.get(*name)?.as_array())?;
    messages.last().filter(|last| is_assistant(last))?.as_object()
}

pub(super) fn records(row: &Row) -> Result<Vec<Record>, String> {
    let mut messages = conversation(row, false)?.unwrap_or_default();
    let error = error_text(row, "error");
    let body = field(row).and_then(|name| row[name].as_object()).filter(|body| error.is_none() && api::fits(body));
    if let Some(body) = body {
        let common = Record { messages, ..common(row)? };
        return Ok(api::records(body)?.into_iter().map(|answer| of_response(answer, common.clone())).collect());
    }
    let completions = match field(row) {
        Some(name) => completions(row, name)?,
        None if error.is_some() => Vec::new(),
        None => {
            let answer = answer(row).ok_or_else(|| {
                format!(
                    "expected a completion in one of {}, or a conversation that ends with the assistant",
                    COMPLETION.join(", ")
                )
            })?;
            messages.pop();
            vec![Completion { content: Some(written(answer)?), fields: None }]
        }
    };
    // a conversation that goes on to the answer, with the answer once more in its field
    let answers = completions.iter().filter_map(|completion| completion.content.as_ref());
    if messages.last().is_some_and(|last| answers.map(|answer| &answer.text).any(|text| *text == last.content)) {
        messages.pop();
    }
    let common = Record { messages, ..common(row)? };
    if let Some(error) = error {
        let partial = completions.into_iter().next().and_then(|completion| completion.content).unwrap_or_default();
        return Ok(vec![Record { completion: partial.text, reasoning: partial.reasoning, ..common.fail(error) }]);
    }
    let several = completions.len() > 1;
    let mut records = Vec::new();
    for (position, completion) in completions.into_iter().enumerate() {
        let record = completion.record(row, &common)?;
        let sample = if several { u32::try_from(position).ok() } else { record.sample };
        records.push(Record { sample, ..record });
    }
    Ok(records)
}

/// A completion out of the body of an API's response, with what its row tells.
fn of_response(answer: Record, row: Record) -> Record {
    Record {
        model: answer.model.or(row.model),
        sample: answer.sample.or(row.sample),
        messages: if row.messages.is_empty() { answer.messages } else { row.messages },
        tokens: answer.tokens.or(row.tokens),
        id: row.id,
        slice: row.slice,
        reference: row.reference,
        closed: row.closed,
        language: row.language,
        cap: row.cap,
        ..answer
    }
}

/// The fields that all samples of a row share.
fn common(row: &Row) -> Result<Record, String> {
    Ok(Record {
        model: first(row, &["model", "model_id", "generator", "model_name"], text)?,
        id: prompts::id(row, false)?,
        sample: count(row, "sample")?,
        slice: first(row, &["slice", "category", "dataset"], text)?,
        reference: match given(row, "reference").or_else(|| row.get("references")?.get(0)) {
            Some(Value::String(reference)) => Some(reference.clone()),
            _ => None,
        },
        closed: match given(row, "closed") {
            None => false,
            Some(Value::Bool(closed)) => *closed,
            Some(other) => return Err(format!("`closed`: expected true or false, got {}", json_kind(other))),
        },
        language: text(row, "language")?,
        tokens: tokens(row)?,
        cap: first(row, &["cap", "max_tokens", "max_new_tokens"], count)?,
        ..Record::new("")
    })
}

/// Objects beside the completion that tell of it: SGLang, text-generation-inference.
fn details(row: &Row) -> impl Iterator<Item = &Row> {
    ["meta_info", "details", "usage"].iter().filter_map(|name| row.get(*name)?.as_object())
}

fn tokens(row: &Row) -> Result<Option<u32>, String> {
    if let Some(Value::Array(tokens)) = row.get("tokens") {
        return Ok(u32::try_from(tokens.len()).ok());
    }
    let names = ["tokens", "completion_tokens", "generated_tokens"];
    let found = std::iter::once(row).chain(details(row)).map(|fields| first(fields, &names, count));
    Ok(found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().next())
}

/// One completion of a row, with the fields of its own where it has any.
struct Completion<'a> {
    /// None where it is null.
    content: Option<Content>,
    fields: Option<&'a Row>,
}

/// The completions in a field: a text, messages, an object with either, or a list of samples.
fn completions<'a>(row: &'a Row, name: &str) -> Result<Vec<Completion<'a>>, String> {
    let is_sample =
        |value: &Value| value.is_string() || value.is_null() || value.get("text").is_some_and(Value::is_string);
    match &row[name] {
        Value::Array(values) if values.is_empty() => Ok(vec![Completion { content: None, fields: None }]),
        // what the model wrote, as messages: TRL
        Value::Array(values) if is_assistant(&values[values.len() - 1]) => {
            let last = values[values.len() - 1].as_object();
            let content = last.map(written).transpose().map_err(|problem| format!("`{name}`: {problem}"))?;
            Ok(vec![Completion { content, fields: None }])
        }
        Value::Array(values) if values.iter().all(|value| is_sample(value) && value.get("type").is_none()) => {
            values.iter().map(|value| completion(name, value)).collect()
        }
        value => Ok(vec![completion(name, value)?]),
    }
}

fn completion<'a>(name: &str, value: &'a Value) -> Result<Completion<'a>, String> {
    // a choice as an API has it
    let message = value.get("message").filter(|message| message.is_object()).unwrap_or(value);
    let expected =
        |got: &str| format!("`{name}`: expected a text, a list of texts, or messages of the assistant, got {got}");
    if let Some(fields) = message.as_object().filter(|fields| !Content::is_message(fields)) {
        let names: Vec<&str> = fields.keys().map(String::as_str).take(8).collect();
        return Err(expected(&match names.as_slice() {
            [] => "an empty object".to_owned(),
            names => format!("an object with {}", names.join(", ")),
        }));
    }
    let content = (!message.is_null()).then(|| Content::of_value(message)).transpose();
    let content = content.map_err(|_| expected(json_kind(message)))?;
    Ok(Completion { content, fields: value.as_object() })
}

impl Completion<'_> {
    fn record(self, row: &Row, common: &Record) -> Result<Record, String> {
        let mut content = self.content.clone().unwrap_or_default();
        // reasoning beside the completion
        content.reasoning = match content.reasoning {
            None => first(row, &["reasoning_content", "reasoning", "thinking"], text).ok().flatten(),
            found => found,
        };
        if content.text == super::FAILED {
            return Ok(common.clone().fail("FastChat: $ERROR$"));
        }
        let record = Record { completion: content.text, reasoning: content.reasoning, ..common.clone() };
        let unfinished =
            |record: &Record| record.finish_reason == FinishReason::Unknown && record.finish_remark.is_none();
        // the nearest report of an end is the completion's own
        let reports = self.fields.into_iter().chain(details(row)).chain([row]);
        let record =
            reports.fold(record, |record, fields| if unfinished(&record) { record.finished(fields) } else { record });
        if self.content.is_none() && record.reasoning.is_none() && unfinished(&record) {
            return Ok(common.clone().fail("no completion: null"));
        }
        Ok(record)
    }
}
