//! Inputs of the template beside the messages.

use serde_json::{Map, Value, json};
use smpo_chat::TemplateInputs;

use super::fields::{Fields, is_silent};
use super::wrong_type;
use crate::read_error::Problem;

/// Takes `tools` (or `functions`), `documents` and `chat_template_kwargs`, each also as JSON text.
pub(super) fn inputs(row: &mut Fields) -> Result<TemplateInputs, Problem> {
    let mut inputs =
        TemplateInputs { tools: list(row, "tools")?, documents: list(row, "documents")?, ..TemplateInputs::default() };
    let functions = list(row, "functions")?;
    if inputs.tools.is_empty() {
        // OpenAI's older form: schemas without the envelope that templates expect
        let wrap = |schema: Value| match schema.get("function") {
            Some(_) => schema,
            None => json!({"type": "function", "function": schema}),
        };
        inputs.tools = functions.into_iter().map(wrap).collect();
    } else if !functions.is_empty() {
        return Err(Problem::Contradiction {
            one: "`functions`".into(),
            other: "`tools`".into(),
            remedy: "keep one list of tools",
        });
    }
    inputs.chat_template_kwargs = match parsed(row, "chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(variables)) => variables,
        Some(other) => return Err(wrong_type("chat_template_kwargs".into(), "an object", &other)),
    };
    Ok(inputs)
}

/// A list of objects.
fn list(row: &mut Fields, name: &str) -> Result<Vec<Value>, Problem> {
    match parsed(row, name) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => match items.iter().find(|item| !item.is_object()) {
            Some(other) => Err(wrong_type(format!("{name}[]"), "an object", other)),
            None => Ok(items),
        },
        Some(other) => Err(wrong_type(name.into(), "a list of objects, or its JSON text", &other)),
    }
}

/// A value, or the JSON in its text; `None` where it says nothing.
fn parsed(row: &mut Fields, name: &str) -> Option<Value> {
    let value = match row.take(name)? {
        Value::String(text) if !text.trim().is_empty() => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        value => value,
    };
    Some(value).filter(|value| !is_silent(value))
}
