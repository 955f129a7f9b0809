//! Conversations as token ids.

use smpo_chat::{Conversation, Message};

use crate::chat_tokenizer::Around;
use crate::encoded::Encoded;
use crate::last_words;
use crate::spans::{Side, Span};
use crate::turn_split::{self, Rendered};
use crate::{ChatTokenizer, TokenizerError, Turn};

/// A prompt and one completion as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptCompletion {
    /// The prompt, up to and including the header that opens the assistant's turn.
    pub prompt_ids: Vec<u32>,
    /// The completion; ends in exactly one terminator.
    pub completion_ids: Vec<u32>,
    /// The turns of the completion that are scored.
    pub turns: Vec<Turn>,
}

/// A text or a whole conversation as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The ids, special tokens included.
    pub ids: Vec<u32>,
    /// False for a conversation whose last answer was cut before its end.
    pub finished: bool,
}

/// A prompt and any number of completions of it as token ids, split at one point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptCompletions {
    /// The prompt, up to and including the header that opens the assistant's turn.
    pub prompt_ids: Vec<u32>,
    /// The completions, in the order given; each ends in exactly one terminator.
    pub completion_ids: Vec<Vec<u32>>,
    /// Per completion, its turns that are scored.
    pub turns: Vec<Vec<Turn>>,
    /// Per completion, the length of the prompt where it is the only one: at least that of `prompt_ids`. `None` where
    /// the template splits them at different places.
    pub alone_prompt_lengths: Option<Vec<usize>>,
    /// True if `prompt_ids` are all of the prompt: no completion begins with a merge across the boundary.
    pub is_prompt_whole: bool,
    /// Per completion, its text as the template renders it, with the end of its turn.
    pub texts: Vec<String>,
    /// Continuation of the generation prompt where these completions begin, such as `<think>`; mostly nothing.
    pub unopened: String,
}

impl ChatTokenizer {
    /// The prompt with the header that opens the assistant's turn, as text. The template writes every special token
    /// itself, as with `apply_chat_template(add_generation_prompt=True)` of transformers.
    ///
    /// # Errors
    /// When the template fails.
    pub fn render_prompt<'a>(&self, prompt: impl Into<Conversation<'a>>) -> Result<String, TokenizerError> {
        Ok(self.template.render(prompt, true)?)
    }

    /// Token ids of [`ChatTokenizer::render_prompt`]: the input from which the model generates.
    ///
    /// # Errors
    /// When the template or the tokenizer fails.
    pub fn encode_prompt<'a>(&self, prompt: impl Into<Conversation<'a>>) -> Result<Vec<u32>, TokenizerError> {
        self.encode_text(&self.render_prompt(prompt)?)
    }

    /// Token ids of a text that holds its special tokens already; none are added.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.encode(&[text])?.swap_remove(0).ids)
    }

    /// Token ids of a text that no template renders, between the special tokens that the tokenizer itself puts around one,
    /// as transformers' `tokenizer(text)` gives them.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode_plain(&self, text: &str) -> Result<Sequence, TokenizerError> {
        let Around { before, after } = &self.around;
        Ok(Sequence { ids: [&before[..], &self.encode_text(text)?, after].concat(), finished: true })
    }

    /// Token ids of a whole conversation, whoever speaks last, as `apply_chat_template` of transformers gives them without a
    /// generation prompt. A last answer that was cut ends with its last token.
    ///
    /// # Errors
    /// When the template or the tokenizer fails.
    pub fn encode_whole(&self, conversation: Conversation<'_>) -> Result<Sequence, TokenizerError> {
        if let Some((last, prompt)) = conversation.messages.split_last()
            && last.role == "assistant"
            && !last.finished
            && !prompt.is_empty()
        {
            let prompt = Conversation { messages: prompt, ..conversation };
            let whole = self.encode_completion(prompt, std::slice::from_ref(last))?;
            let cut = whole.turns.last().and_then(|turn| turn.cut).unwrap_or(whole.completion_ids.len());
            return Ok(Sequence { ids: [&whole.prompt_ids, &whole.completion_ids[..cut]].concat(), finished: false });
        }
        Ok(Sequence { ids: self.encode_text(&self.template.render(conversation, false)?)?, finished: true })
    }

    /// Token ids of what the template writes after the last assistant turn has ended: a line feed, or nothing.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode_tail(&self) -> Result<Vec<u32>, TokenizerError> {
        let Some(end) = self.terminators.find(&self.suffix) else { return Ok(Vec::new()) };
        // with the terminator, which is one token: a text is encoded otherwise where it begins
        let mut ids = self.encode_text(&self.suffix[end.start..])?;
        ids.drain(..1.min(ids.len()));
        Ok(ids)
    }

    /// A prompt and its completion: render(prompt + completion), split where render(prompt) ends.
    /// `prompt_ids` followed by `completion_ids` is the encoding of the whole text; a token that straddles the split
    /// belongs to the completion.
    ///
    /// # Errors
    /// When the roles cannot be split, or the template or the tokenizer fails.
    pub fn encode_completion<'a>(
        &self,
        prompt: impl Into<Conversation<'a>>,
        completion: &[Message],
    ) -> Result<PromptCompletion, TokenizerError> {
        let mut ids = self.encode_completions(prompt, &[completion])?;
        let (completion_ids, turns) = (ids.completion_ids.swap_remove(0), ids.turns.swap_remove(0));
        Ok(PromptCompletion { prompt_ids: ids.prompt_ids, completion_ids, turns })
    }

    /// As [`ChatTokenizer::encode_completion`] for any number of completions of one prompt, split at one point: a merge
    /// across the boundary in one completion moves the split of all.
    ///
    /// # Errors
    /// As [`ChatTokenizer::encode_completion`].
    pub fn encode_completions<'a>(
        &self,
        prompt: impl Into<Conversation<'a>>,
        completions: &[&[Message]],
    ) -> Result<PromptCompletions, TokenizerError> {
        let rendered = self.render(prompt.into(), completions)?;
        let texts: Vec<&str> = rendered.texts.iter().map(String::as_str).collect();
        let mut whole = Vec::with_capacity(completions.len());
        let mut lengths = Vec::with_capacity(completions.len());
        let mut turns = Vec::with_capacity(completions.len());
        let mut is_prompt_whole = rendered.is_opened;
        for (encoded, spans) in self.encode(&texts)?.into_iter().zip(&rendered.spans) {
            let length = encoded.before(rendered.split, |id| self.special.contains(id));
            is_prompt_whole &= length.checked_sub(1).is_some_and(|last| encoded.ends[last] == rendered.split);
            let text_end = encoded.ends.last().copied().unwrap_or(0);
            let mut ids = encoded.ids.clone();
            self.end_in_one_terminator(&mut ids, length);
            let turn = |span: &Span| self.turn(&encoded, span, text_end, ids.len());
            turns.push(spans.iter().map(turn).collect::<Vec<Turn>>());
            lengths.push(length);
            whole.push(ids);
        }
        let mut prompt_length = lengths.iter().copied().min().unwrap_or(usize::MAX);
        if let Some((first, others)) = whole.split_first() {
            for ids in others {
                let shared = first.iter().zip(ids).take_while(|(a, b)| a == b).count();
                prompt_length = prompt_length.min(shared);
            }
        }
        let prompt_ids = whole.first().map_or_else(Vec::new, |ids| ids[..prompt_length].to_vec());
        let completion_ids: Vec<Vec<u32>> = whole.into_iter().map(|ids| ids[prompt_length..].to_vec()).collect();
        for (turns, spans) in turns.iter_mut().zip(&rendered.spans) {
            for (turn, span) in turns.iter_mut().zip(spans) {
                turn.follow(prompt_length);
                // what a merge in another completion took from the prompt belongs to the answer that begins there
                if span.bytes.start == rendered.split {
                    turn.tokens.start = 0;
                }
            }
        }
        is_prompt_whole &= lengths.iter().all(|length| *length == prompt_length);
        let alone_prompt_lengths = rendered.is_one_split.then_some(lengths);
        let Rendered { mut texts, split, unopened, .. } = rendered;
        texts.iter_mut().for_each(|text| drop(text.drain(..split)));
        Ok(PromptCompletions {
            prompt_ids,
            completion_ids,
            turns,
            alone_prompt_lengths,
            is_prompt_whole,
            texts,
            unopened,
        })
    }

    /// The texts of prompt and completions, each with its turn ended, the split in bytes, and the turns that are scored.
    pub(crate) fn render(
        &self,
        prompt: Conversation<'_>,
        completions: &[&[Message]],
    ) -> Result<Rendered, TokenizerError> {
        let apart = |completion: &&[Message]| last_words::with_open_thoughts(&self.template, prompt, completion);
        let apart: Vec<Option<Vec<Message>>> = completions.iter().map(apart).collect::<Result<_, _>>()?;
        let completions: Vec<&[Message]> =
            completions.iter().zip(&apart).map(|(given, apart)| apart.as_deref().unwrap_or(given)).collect();
        let mut rendered = turn_split::render(&self.template, prompt, &completions)?;
        for (text, completion) in rendered.texts.iter_mut().zip(&completions) {
            let whole = self.template.has_generation_blocks().then(|| text.clone());
            let mut said = turn_split::end_turn(text, rendered.split, &self.suffix, &self.terminators);
            if let Some(last) = completion.last().filter(|last| !last.finished) {
                let words = last_words::end(last, &text[rendered.split..said]);
                said = words.map_or(said, |words| rendered.split + words);
            }
            if let (_, Some(end)) = &self.end
                && !self.terminators.tokens().iter().any(|token| text[rendered.split..].ends_with(token))
            {
                text.push_str(end);
            }
            if let ([message], None) = (*completion, &whole) {
                rendered.spans.push(Span::of_last(message, rendered.split..text.len(), said).into_iter().collect());
                continue;
            }
            let messages = [prompt.messages, *completion].concat();
            let side = Side {
                template: &self.template,
                terminators: &self.terminators,
                suffix: &self.suffix,
                conversation: Conversation { messages: &messages, ..prompt },
                prompt: prompt.messages.len(),
                text,
                split: rendered.split,
                said,
            };
            rendered.spans.push(side.spans(whole.as_deref())?);
        }
        // the template's own blocks may begin inside the generation prompt
        let first = rendered.spans.iter().filter_map(|spans| Some(spans.first()?.bytes.start)).min();
        if let Some(first) = first.filter(|first| *first < rendered.split) {
            rendered.split = first;
            rendered.is_opened = false;
        }
        Ok(rendered)
    }

    /// The tokens of a turn among those of the whole text, of which `last` are left when it ends in one terminator.
    fn turn(&self, encoded: &Encoded, span: &Span, text_end: usize, last: usize) -> Turn {
        let start = encoded.before(span.bytes.start, |id| self.special.contains(id));
        let is_last = span.bytes.end >= text_end;
        let end = if is_last { last } else { encoded.before(span.bytes.end, |id| self.special.contains(id)).min(last) };
        let cut = span.cut.map(|cut| encoded.before(cut, |_| false).clamp(start, end.saturating_sub(1).max(start)));
        Turn { tokens: start.min(end)..end, cut }
    }

    /// Makes `ids[start..]` end in exactly one terminator.
    fn end_in_one_terminator(&self, ids: &mut Vec<u32>, start: usize) {
        let last = match ids.last() {
            Some(&last) if ids.len() > start && self.is_terminator(last) => last,
            _ => self.end.0,
        };
        while ids.len() > start && ids.last().is_some_and(|&id| self.is_terminator(id)) {
            ids.pop();
        }
        ids.push(last);
    }

    /// Ids and byte offsets of texts; the template has written all special tokens, so none are added.
    fn encode(&self, texts: &[&str]) -> Result<Vec<Encoded>, TokenizerError> {
        if let Some(encoded) = self.byte_level.as_ref().and_then(|fast| fast.encode(&self.tokenizer, texts)) {
            return Ok(encoded);
        }
        let whole = |text: &&str| self.tokenizer.encode(*text, false).map(Encoded::from);
        texts.iter().map(whole).collect::<Result<_, _>>().map_err(failed)
    }
}

/// The error of the `tokenizers` crate as one of this crate.
pub(crate) fn failed(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Tokenizer(error.to_string())
}
