//! This crate against `transformers`: every template and case of `golden/`, and on request every real template that
//! the PyPI package `trl` carries, read from where it is installed:
//!
//! ```text
//! SMPO_PEER_PYTHON=/path/to/python cargo test --release -p smpo-chat --test transformers -- --ignored
//! ```
//!
//! That Python needs `transformers`, `jinja2` and `trl`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Map, Value};
use smpo_chat::{ChatError, ChatTemplate, Conversation, Message, TemplateInputs};

#[derive(Deserialize)]
struct Reference {
    special_tokens: Map<String, Value>,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    template: String,
    case: String,
    text: Option<String>,
    error: Option<String>,
    message: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    add_generation_prompt: bool,
    messages: Vec<Map<String, Value>>,
    tools: Option<Vec<Value>>,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read_to_string(golden().join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    cases.into_iter().map(|case| (case.name.clone(), case)).collect()
}

/// A message; content that is no text stays among the fields.
fn message(given: &Map<String, Value>) -> Message {
    let mut fields = given.clone();
    let role = fields.shift_remove("role").unwrap().as_str().unwrap().to_string();
    let text = fields.get("content").and_then(Value::as_str).map(str::to_string);
    if text.is_some() {
        fields.shift_remove("content");
    }
    Message { fields, ..Message::new(role, text.unwrap_or_default()) }
}

/// Renders every entry and returns a line per disagreement.
fn disagreements(reference: &Reference) -> Vec<String> {
    let cases = cases();
    let mut found = Vec::new();
    for entry in &reference.entries {
        let source = entry
            .source
            .clone()
            .unwrap_or_else(|| std::fs::read_to_string(golden().join("templates").join(&entry.template)).unwrap());
        let place = format!("{}, {}", entry.template, entry.case);
        let mut template = match ChatTemplate::from_source(source, &entry.template) {
            Ok(template) => template,
            Err(error) => {
                found.push(format!("{place}: {error}"));
                continue;
            }
        };
        for (name, value) in &reference.special_tokens {
            template = template.with_variable(name, value.clone());
        }
        let case = &cases[&entry.case];
        let messages: Vec<Message> = case.messages.iter().map(message).collect();
        let inputs = TemplateInputs { tools: case.tools.clone().unwrap_or_default(), ..TemplateInputs::default() };
        let conversation = Conversation { messages: &messages, inputs: &inputs };
        let result = template.render(conversation, case.add_generation_prompt);
        match (&entry.text, entry.error.as_deref(), result) {
            (Some(expected), _, Ok(text)) if *expected == text => {}
            (None, Some("refused"), Err(ChatError::Refused { message, .. }))
                if Some(&message) == entry.message.as_ref() => {}
            (None, Some("failed"), Err(ChatError::Render { .. })) => {}
            (expected, error, got) => {
                found.push(format!(
                    "{place}:\n  expected {expected:?} {error:?} {:?}\n  got      {got:?}",
                    entry.message
                ));
            }
        }
    }
    found
}

#[test]
fn renders_as_transformers_does() {
    let text = std::fs::read_to_string(golden().join("golden.json")).unwrap();
    let reference: Reference = serde_json::from_str(&text).unwrap();
    assert!(reference.entries.len() > 50);
    let found = disagreements(&reference);
    assert!(found.is_empty(), "{} of {} disagree:\n{}", found.len(), reference.entries.len(), found.join("\n"));
}

/// `attr` of Python finds nothing in a message, that of minijinja its items: no text is better than another text.
#[test]
fn what_would_render_otherwise_is_refused() {
    let template = ChatTemplate::from_source("{{ messages[0] | attr('role') }}", "attr").unwrap();
    let refused = template.render(&[Message::new("user", "Hi")], false);
    assert!(matches!(refused, Err(ChatError::Render { .. })), "{refused:?}");
}

#[test]
#[ignore = "needs a Python with transformers and trl, named by SMPO_PEER_PYTHON"]
fn renders_every_template_of_trl_as_transformers_does() {
    let python = std::env::var("SMPO_PEER_PYTHON").expect("SMPO_PEER_PYTHON names a Python with transformers and trl");
    let output = Command::new(python).arg(golden().join("render.py")).arg("--trl").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let reference: Reference = serde_json::from_slice(&output.stdout).unwrap();
    let found = disagreements(&reference);
    println!("{} renderings compared, {} disagree", reference.entries.len(), found.len());
    assert!(found.is_empty(), "{} of {} disagree:\n{}", found.len(), reference.entries.len(), found.join("\n"));
}
