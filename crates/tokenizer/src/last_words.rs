//! The last words of an answer that was cut: what a template writes after them is not the model's.

use serde_json::Value;
use smpo_chat::{ChatTemplate, Conversation, Message};

use crate::TokenizerError;

/// Tags of thoughts that stand in the text of an answer.
const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// The byte of a rendered answer after the last words that the message itself has: of its last call, else its text, else its
/// thoughts. `None` where the template writes them otherwise.
pub(crate) fn end(message: &Message, rendered: &str) -> Option<usize> {
    let after = |words: &str| rendered.rfind(words).map(|at| at + words.len());
    let calls = message.fields.get("tool_calls").and_then(Value::as_array);
    if let Some(call) = calls.and_then(|calls| calls.last()) {
        let function = call.get("function").unwrap_or(call);
        let arguments = function.get("arguments").map(spellings).unwrap_or_default();
        let name = function.get("name").and_then(Value::as_str).map(str::to_owned);
        return arguments.into_iter().chain(name).filter(|words| !words.is_empty()).find_map(|words| after(&words));
    }
    let text = |text: &str| match text.trim().is_empty() {
        true => None,
        false => after(text).or_else(|| after(text.trim())),
    };
    text(&message.content).or_else(|| text(message.reasoning()?))
}

/// Arguments of a call as templates write them: as text, as JSON of the text, as JSON.
fn spellings(arguments: &Value) -> Vec<String> {
    match arguments {
        Value::String(text) => {
            let json = Value::from(text.trim()).to_string();
            vec![text.trim().to_owned(), json[1..json.len() - 1].to_owned()]
        }
        other => vec![other.to_string()],
    }
}

/// The completion with the thoughts of a cut answer in the field of their own, where the template writes an empty block of thoughts
/// before the open one in the text. `None` for every other completion.
///
/// # Errors
/// When the template fails.
pub(crate) fn with_open_thoughts(
    template: &ChatTemplate,
    prompt: Conversation<'_>,
    completion: &[Message],
) -> Result<Option<Vec<Message>>, TokenizerError> {
    let Some((last, before)) = completion.split_last().filter(|(last, _)| !last.finished) else { return Ok(None) };
    let Some(thoughts) = last.content.trim_start().strip_prefix(OPEN).filter(|rest| !rest.contains(CLOSE)) else {
        return Ok(None);
    };
    let rendered = |completion: &[Message]| {
        let messages = [prompt.messages, completion].concat();
        template.render(Conversation { messages: &messages, ..prompt }, false)
    };
    let text = rendered(completion)?;
    let is_closed =
        |text: &str| text.rfind(last.content.trim()).is_some_and(|at| text[..at].trim_end().ends_with(CLOSE));
    if !is_closed(&text) {
        return Ok(None);
    }
    let mut apart = Message { content: String::new(), ..last.clone() };
    apart.fields.insert(Message::REASONING[0].into(), thoughts.strip_prefix('\n').unwrap_or(thoughts).into());
    let apart = [before, &[apart]].concat();
    let has_thoughts = rendered(&apart)?.contains(thoughts.trim());
    Ok(has_thoughts.then_some(apart))
}
