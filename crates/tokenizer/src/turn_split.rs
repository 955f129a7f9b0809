//! The split between a rendered prompt and its completions, and the end of a completion's turn.

use smpo_chat::{ChatTemplate, Conversation, Message, Terminators};

use crate::TokenizerError;
use crate::spans::Span;

/// Placeholder for a completion while the template's header is measured.
const PROBE: &str = "probe 9be07";

/// A rendered prompt and its completions, all cut at one point: `text[..split]` is the prompt of every side.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// Bytes of prompt at the start of each text.
    pub split: usize,
    /// One text per side: prompt, completion, and the template's turn end.
    pub texts: Vec<String>,
    /// Per text, the bytes of the turns that are scored.
    pub spans: Vec<Vec<Span>>,
    /// True if every side by itself is split at the same place.
    pub is_one_split: bool,
    /// True if the split is the end of the generation prompt.
    pub is_opened: bool,
    /// The end of the generation prompt after the split.
    pub unopened: String,
}

/// Renders `prompt + side` for every side and finds the one point that splits them all.
pub(crate) fn render(
    template: &ChatTemplate,
    prompt: Conversation<'_>,
    sides: &[&[Message]],
) -> Result<Rendered, TokenizerError> {
    check_roles(prompt.messages, sides)?;
    let whole: Vec<Vec<Message>> = sides.iter().map(|side| [prompt.messages, side].concat()).collect();
    let whole = whole.iter().map(|messages| (Conversation { messages, ..prompt }, false));
    let all: Vec<_> = [(prompt, true)].into_iter().chain(whole).collect();
    let mut texts: Vec<String> = template.render_all(&all).into_iter().collect::<Result<_, _>>()?;
    let opened = texts.remove(0);
    let begun = texts.iter().filter(|text| text.starts_with(&opened)).count();
    if begun == texts.len() {
        let split = opened.len();
        let (spans, unopened) = (Vec::new(), String::new());
        return Ok(Rendered { split, texts, spans, is_one_split: true, is_opened: true, unopened });
    }
    let (split, is_header) = part(template, prompt, &opened, &texts)?;
    let is_one_split = texts.len() == 1 || (is_header && begun == 0);
    let unopened = opened.get(split..).unwrap_or_default().to_string();
    Ok(Rendered { split, texts, spans: Vec::new(), is_one_split, is_opened: false, unopened })
}

/// The split where the generation prompt is no prefix of the finished turn (templates that open a thinking block
/// only when generating): the header before the assistant's words, or else all that the texts share. With it, true for
/// the header.
fn part(
    template: &ChatTemplate,
    prompt: Conversation<'_>,
    opened: &str,
    texts: &[String],
) -> Result<(usize, bool), TokenizerError> {
    let probe = [prompt.messages, &[Message::assistant(PROBE)]].concat();
    let probed = template.render(Conversation { messages: &probe, ..prompt }, false)?;
    let header = probed.rfind(PROBE).map(|at| &probed[..at]);
    let header = header.filter(|header| texts.iter().all(|text| text.starts_with(header)));
    let shared = || texts.iter().fold(opened.len(), |length, text| length.min(common_prefix(opened, text)));
    let split = header.map_or_else(shared, str::len);
    // a split inside the prompt's own words would train on them
    let unopened = template.render(prompt, false)?;
    let said = &opened[..common_prefix(opened, &unopened)];
    let last = prompt.messages.last().map_or("", |message| message.content.trim());
    let needed = said.rfind(last).map_or(0, |at| at + last.len());
    if split < needed {
        return Err(TokenizerError::PromptChanges { at: split, length: opened.len() });
    }
    Ok((split, header.is_some()))
}

fn check_roles(prompt: &[Message], sides: &[&[Message]]) -> Result<(), TokenizerError> {
    let wrong = |list, expected, got: Option<&Message>| TokenizerError::Roles {
        list,
        expected,
        got: got.map_or("no message".to_string(), |message| format!("role {:?}", message.role)),
    };
    match prompt.last() {
        None => return Err(wrong("prompt", "at least one message", None)),
        Some(last) if last.role == "assistant" => {
            return Err(wrong("prompt", "a last message that the assistant answers", Some(last)));
        }
        Some(_) => {}
    }
    for side in sides {
        for message in [side.first(), side.last()] {
            if message.is_none_or(|message| message.role != "assistant") {
                return Err(wrong("completion", "to begin and end with an assistant message", message));
            }
        }
    }
    Ok(())
}

/// A side's text cut at the end of its turn: everything after the first terminator that the template writes after
/// the last message is dropped (the newline of ChatML), as are terminators the data already carried there. Returns the
/// byte at which the template's turn end begins.
pub(crate) fn end_turn(text: &mut String, split: usize, suffix: &str, terminators: &Terminators) -> usize {
    let completion = &text[split..];
    let body_length = if !suffix.is_empty() && completion.ends_with(suffix) {
        completion.len() - suffix.len()
    } else {
        last_turn_end(completion, terminators).unwrap_or(completion.len())
    };
    let (body, tail) = completion.split_at(body_length);
    let tail = match terminators.find(tail) {
        Some(range) => &tail[..range.end],
        None => tail.trim_end(),
    };
    let body = without_terminators_at_end(body, terminators);
    let said = split + body.len();
    let ended = [&text[..split], body, tail].concat();
    *text = ended;
    said
}

/// The start of a terminator that only white space follows.
fn last_turn_end(completion: &str, terminators: &Terminators) -> Option<usize> {
    let trimmed = completion.trim_end();
    terminators
        .tokens()
        .into_iter()
        .filter(|token| !token.is_empty() && trimmed.ends_with(token))
        .map(|token| trimmed.len() - token.len())
        .min()
}

fn without_terminators_at_end<'a>(mut body: &'a str, terminators: &Terminators) -> &'a str {
    while let Some(start) = last_turn_end(body, terminators) {
        body = &body[..start];
    }
    body
}

/// Bytes that two texts share at the start, at a character boundary.
pub(crate) fn common_prefix(a: &str, b: &str) -> usize {
    a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y).map_or(a.len().min(b.len()), |((at, _), _)| at)
}
