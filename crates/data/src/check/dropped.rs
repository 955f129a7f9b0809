//! Parts of a row that its chat template leaves out.
//!
//! A text is looked for in what was rendered. Where that cannot tell (the words of a call or a thought may stand in a text as
//! well, a tool's output may be escaped), the part is changed: it is left out if nothing else changes.

use serde_json::{Value, json};
use smpo_chat::{ChatTemplate, Conversation, Message, TemplateInputs};

/// Longest excerpt of a text in a detail, in characters.
const EXCERPT: usize = 40;
/// Bytes of a system message that may well stand in a rendering by chance.
const SHORT: usize = 8;
/// Text in place of a part.
const PROBE: &str = "probe 7d41c";

/// The parts of a prompt that the template leaves out. Thoughts of earlier answers are none: templates of reasoning models
/// drop them by design.
pub(super) fn of_prompt(prompt: Conversation<'_>, template: &ChatTemplate) -> Vec<String> {
    let Conversation { messages, inputs } = prompt;
    let lists = [("tools", &inputs.tools), ("documents", &inputs.documents)];
    // a template that drops a lone question does not load
    if messages.len() < 2 && lists.iter().all(|(_, list)| list.is_empty()) {
        return Vec::new();
    }
    let Some(rendering) = Rendering::of(prompt, template) else { return Vec::new() };
    let mut dropped = Vec::new();
    for (name, _) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        let mut inputs = inputs.clone();
        let TemplateInputs { tools, documents, .. } = &mut inputs;
        if name == "tools" {
            tools.clear()
        } else {
            documents.clear()
        }
        if rendering.ignores(Conversation { messages, inputs: &inputs }) {
            dropped.push(name.to_string());
        }
    }
    if messages.iter().any(has_calls) && rendering.ignores_in(messages, |_| true, change_calls) {
        dropped.push("tool calls".to_string());
    }
    let unsure = |message: &Message| {
        let said = said(message);
        let by_chance = message.role == "system" && said.len() < SHORT;
        !said.is_empty() && (by_chance || !says(&rendering.text, said) && !rendering.text.contains(&escaped(said)))
    };
    let change = |message: &mut Message| {
        message.content = PROBE.to_string();
        message.fields.remove("content");
    };
    let left_out = |at: &usize| rendering.ignores_in(messages, |index| index == *at, change);
    if let Some(at) = (0..messages.len()).filter(|at| unsure(&messages[*at])).find(left_out) {
        dropped.push(format!("{} {:?}", messages[at].role, excerpt(said(&messages[at]))));
    }
    dropped
}

/// The first part of a completion's scored answers that the template leaves out of `rendered`, or rewrites.
pub(super) fn of_answers(
    prompt: Conversation<'_>,
    completion: &[Message],
    rendered: &str,
    template: &ChatTemplate,
) -> Option<String> {
    let scored = || completion.iter().filter(|message| is_scored(message));
    if let Some(part) = scored().flat_map(parts).find(|part| !says(rendered, part)) {
        return Some(format!("{:?}", excerpt(part)));
    }
    let is_elsewhere = |thought: &str| completion.iter().any(|message| message.content.contains(thought.trim()));
    let thinks =
        scored().filter_map(Message::reasoning).any(|thought| !thought.trim().is_empty() && is_elsewhere(thought));
    let calls = scored().any(has_calls);
    if !thinks && !calls {
        return None;
    }
    let whole = [prompt.messages, completion].concat();
    let rendering = Rendering::of(Conversation { messages: &whole, ..prompt }, template)?;
    let of_it = |index: usize| index >= prompt.messages.len() && is_scored(&whole[index]);
    let unsaid = [("tool calls", calls, change_calls as fn(&mut Message)), ("reasoning", thinks, change_reasoning)];
    let dropped = unsaid.into_iter().find(|(_, has, change)| *has && rendering.ignores_in(&whole, of_it, change));
    dropped.map(|(name, ..)| name.to_string())
}

/// A conversation as the template writes it.
struct Rendering<'a> {
    conversation: Conversation<'a>,
    template: &'a ChatTemplate,
    text: String,
}

impl<'a> Rendering<'a> {
    fn of(conversation: Conversation<'a>, template: &'a ChatTemplate) -> Option<Self> {
        let text = template.render(conversation, false).ok()?;
        Some(Self { conversation, template, text })
    }

    /// True if another conversation is written alike: the template reads nothing of what is changed in it.
    fn ignores(&self, changed: Conversation<'_>) -> bool {
        self.template.render(changed, false).is_ok_and(|text| text == self.text)
    }

    /// The same with some of the messages changed.
    fn ignores_in(&self, messages: &[Message], which: impl Fn(usize) -> bool, change: impl Fn(&mut Message)) -> bool {
        let mut changed = messages.to_vec();
        changed.iter_mut().enumerate().filter(|(index, _)| which(*index)).for_each(|(_, message)| change(message));
        self.ignores(Conversation { messages: &changed, ..self.conversation })
    }
}

/// True for an answer that is learned.
pub(super) fn is_scored(message: &Message) -> bool {
    message.role == "assistant" && message.scored
}

fn has_calls(message: &Message) -> bool {
    message.fields.contains_key("tool_calls")
}

/// Gives the calls of a message other arguments; another name to those without any.
fn change_calls(message: &mut Message) {
    let calls = message.fields.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        let call = if call.get("function").is_some() { &mut call["function"] } else { call };
        match call.get_mut("arguments") {
            Some(Value::Object(arguments)) if !arguments.is_empty() => {
                arguments.values_mut().for_each(|value| *value = PROBE.into());
            }
            Some(Value::String(text)) if !text.trim().is_empty() => *text = json!({ "text": PROBE }).to_string(),
            _ => call["name"] = PROBE.into(),
        }
    }
}

fn change_reasoning(message: &mut Message) {
    for name in Message::REASONING {
        if let Some(thought) = message.fields.get_mut(name) {
            *thought = PROBE.into();
        }
    }
}

fn excerpt(text: &str) -> String {
    text.trim().chars().take(EXCERPT).collect()
}

/// The text of a message, without an answer's thoughts.
fn said(message: &Message) -> &str {
    let content = message.content.as_str();
    let said = match message.role.as_str() {
        "assistant" => {
            let answer = content.rsplit_once("</think>").map_or(content, |(_, answer)| answer);
            answer.split_once("<think>").map_or(answer, |(before, _)| before)
        }
        _ => content,
    };
    said.trim()
}

/// The parts of an answer that its rendering must hold: text and reasoning, between the marks of reasoning in the text, and
/// the names of called functions.
fn parts(message: &Message) -> Vec<&str> {
    let calls = message.fields.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let names = calls.filter_map(|call| call.get("function").unwrap_or(call).get("name").and_then(Value::as_str));
    let content = message.content.as_str();
    // most answers have no mark: one look for its first byte is cheaper than two searches
    let marked = content.as_bytes().contains(&b'<');
    let unmarked = (!marked).then_some(content);
    let between = marked.then_some(content).into_iter().flat_map(|content| content.split("<think>"));
    let said = unmarked.into_iter().chain(between.flat_map(|part| part.split("</think>")));
    said.chain(message.reasoning()).chain(names).filter(|part| !part.trim().is_empty()).collect()
}

/// A text inside JSON, as templates that write `content | tojson` have it.
fn escaped(text: &str) -> String {
    let json = Value::from(text).to_string();
    json[1..json.len() - 1].to_string()
}

/// True if a rendering holds a text, white space aside.
fn says(rendered: &str, part: &str) -> bool {
    let part = part.trim();
    // an answer of one turn is all that was rendered; a search for a long text costs more than the comparison
    if rendered.trim_start().starts_with(part) || rendered.contains(part) {
        return true;
    }
    let without_space = |text: &str| text.split_whitespace().collect::<String>();
    without_space(rendered).contains(&without_space(part))
}
