//! The bytes of a rendered conversation that the assistant wrote: what is scored of a completion.
//!
//! A completion of one message is scored whole. Where it has several turns, each assistant's turn begins where the
//! rendered conversation before it, with the generation prompt, ends, and it ends with the first terminator after that;
//! what stands between is context. A template that renders the turns before an answer otherwise once the answer follows has
//! no such place, and is refused. Of each turn, a template with `{% generation %}` blocks says itself what is scored.

use std::ops::Range;

use smpo_chat::{ChatTemplate, Conversation, Message, Terminators};

use crate::TokenizerError;
use crate::last_words;
use crate::turn_split::common_prefix;

/// Stands for the words of one turn while its header is measured.
const PROBE: &str = "probe 3d7aa";

/// Bytes of an assistant's turn in a rendered text, the terminator last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub bytes: Range<usize>,
    /// Of a turn that did not end: the byte after its last word.
    pub cut: Option<usize>,
}

impl Span {
    /// The last turn of a text, if it is scored; `said` is the byte after its last word.
    pub fn of_last(message: &Message, bytes: Range<usize>, said: usize) -> Option<Self> {
        let cut = (!message.finished).then(|| said.max(bytes.start));
        message.scored.then_some(Self { bytes, cut })
    }
}

/// A rendered completion after its prompt.
pub(crate) struct Side<'a> {
    pub template: &'a ChatTemplate,
    pub terminators: &'a Terminators,
    /// Text that the template writes after the last assistant message.
    pub suffix: &'a str,
    /// Prompt and completion.
    pub conversation: Conversation<'a>,
    /// Number of messages of the prompt.
    pub prompt: usize,
    /// The rendered conversation, its last turn ended.
    pub text: &'a str,
    /// Byte at which the completion begins.
    pub split: usize,
    /// Byte after the last word of the last turn.
    pub said: usize,
}

impl Side<'_> {
    /// The spans of the turns that are scored, in order. `whole` is the text as a template with blocks of its own wrote it.
    pub fn spans(&self, whole: Option<&str>) -> Result<Vec<Span>, TokenizerError> {
        let turns = self.turns(&self.conversation.messages[self.prompt..])?;
        let Some(whole) = whole else { return Ok(turns) };
        let blocks = self.template.generation_spans(self.conversation, whole)?.unwrap_or_default();
        let mut spans: Vec<Span> = Vec::with_capacity(turns.len());
        for turn in &turns {
            let earliest = spans.last().map_or(0, |before| before.bytes.end);
            spans.extend(narrow(turn, &blocks, earliest, self.text, self.terminators));
        }
        // a template may mark no turn that we see, such as those it captures in a variable
        Ok(if spans.is_empty() { turns } else { spans })
    }

    fn turns(&self, messages: &[Message]) -> Result<Vec<Span>, TokenizerError> {
        let of_assistant: Vec<usize> = (0..messages.len()).filter(|&at| messages[at].role == "assistant").collect();
        let starts: Vec<usize> = of_assistant
            .iter()
            .map(|&at| if at == 0 { Ok(self.split) } else { self.start(at) })
            .collect::<Result<_, _>>()?;
        let mut spans = Vec::with_capacity(of_assistant.len());
        for (turn, (&at, &start)) in of_assistant.iter().zip(&starts).enumerate() {
            let message = &messages[at];
            match starts.get(turn + 1) {
                None => spans.extend(Span::of_last(message, start..self.text.len(), self.said)),
                Some(&next) if message.scored => spans.push(self.inner(message, at, start..next)?),
                Some(_) => {}
            }
        }
        Ok(spans)
    }

    /// The byte at which the assistant's message `at` of the completion begins.
    fn start(&self, at: usize) -> Result<usize, TokenizerError> {
        let before = &self.conversation.messages[..self.prompt + at];
        let rendered =
            |messages: &[Message], opened| self.template.render(Conversation { messages, ..self.conversation }, opened);
        let opened = rendered(before, true)?;
        if self.text.starts_with(&opened) {
            return Ok(opened.len());
        }
        // the generation prompt may open a block that a finished turn lacks: measure the header of this turn itself
        let mut probed = self.conversation.messages.to_vec();
        probed[self.prompt + at] = Message::assistant(PROBE);
        if let Ok(text) = rendered(&probed, false)
            && let Some(header) = text.find(PROBE).map(|at| &text[..at])
            && self.text.starts_with(header)
        {
            return Ok(header.len());
        }
        let unopened = rendered(before, false)?;
        let shared = common_prefix(&opened, self.text);
        if self.text.starts_with(&unopened) && shared > unopened.len() {
            return Ok(shared);
        }
        Err(TokenizerError::TurnChanges { message: self.prompt + at + 1, at: shared })
    }

    /// A turn that another one follows, within `bytes`: from its first word to its terminator.
    fn inner(&self, message: &Message, at: usize, bytes: Range<usize>) -> Result<Span, TokenizerError> {
        let turn = &self.text[bytes.clone()];
        let end = self.terminators.find(turn).filter(|end| self.ends_before_next(at, bytes.start + end.end));
        let Some(end) = end else { return Err(TokenizerError::OpenTurn { message: self.prompt + at + 1 }) };
        let closing = self.terminators.find(self.suffix).map_or("", |end| &self.suffix[..end.start]);
        let said = turn[..end.start].strip_suffix(closing).map_or(end.start, str::len);
        let cut = (!message.finished).then(|| bytes.start + last_words::end(message, &turn[..said]).unwrap_or(said));
        Ok(Span { bytes: bytes.start..bytes.start + end.end, cut })
    }

    /// True if the words of the message after `at` come after byte `end`: the terminator before it is then no other's.
    fn ends_before_next(&self, at: usize, end: usize) -> bool {
        let next = &self.conversation.messages[self.prompt + at + 1];
        let words = next.content.trim();
        words.is_empty() || self.text[end..].contains(words)
    }
}

/// The part of a turn that the template's own blocks write, from byte `earliest` on, with the terminator behind the last of them. A
/// block may begin before the turn, inside the generation prompt.
fn narrow(turn: &Span, blocks: &[Range<usize>], earliest: usize, text: &str, terminators: &Terminators) -> Vec<Span> {
    let mut parts: Vec<Range<usize>> = blocks
        .iter()
        .filter(|block| block.start < turn.bytes.end && block.end > turn.bytes.start)
        .map(|block| block.start.max(earliest)..block.end.min(turn.bytes.end))
        .collect();
    if let Some(last) = parts.last_mut()
        && last.end < turn.bytes.end
        && terminators.find(&text[last.end..turn.bytes.end]).is_some_and(|end| end.start == 0)
    {
        last.end = turn.bytes.end;
    }
    let cut = |part: &Range<usize>| turn.cut.filter(|cut| *cut < part.end).map(|cut| cut.max(part.start));
    parts.into_iter().map(|part| Span { cut: cut(&part), bytes: part }).collect()
}
