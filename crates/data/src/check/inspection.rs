//! Findings in one record.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smpo_chat::Message;
use smpo_tokenizer::{ChatTokenizer, PromptCompletions};

use crate::check::{Rule, dropped, markup};
use crate::degenerate::degenerate;
use crate::record::{Record, RecordKind, content_hash};
use crate::shape::Remarks;

/// Findings in one record that do not depend on the lengths of a run, and its hashes for findings across records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inspection {
    pub kind: RecordKind,
    /// Id of the record.
    pub id: String,
    /// Hash of the content without the id.
    pub content: u64,
    /// Of pairs with two different sides: hash of the content with the sides swapped. Of labelled completions: with the other label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped: Option<u64>,
    /// Of labelled completions: true if desirable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<bool>,
    /// Broken rules, each once, with a detail for the table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<(Rule, String)>,
    /// Columns and message keys that nothing reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

impl Inspection {
    /// Checks the text of a record.
    pub fn of_text(record: &Record) -> Self {
        let swapped = match record {
            Record::Pair(pair) if pair.chosen != pair.rejected => {
                Some(content_hash(None, &pair.inputs, &[&pair.prompt, &pair.rejected, &pair.chosen]))
            }
            Record::Unpaired(row) => Some(content_hash(Some(!row.label), &row.inputs, &[&row.prompt, &row.completion])),
            _ => None,
        };
        let mut inspection = Self {
            kind: record.kind(),
            id: record.id().to_string(),
            content: record.content_hash(),
            swapped,
            label: match record {
                Record::Unpaired(row) => Some(row.label),
                _ => None,
            },
            broken: Vec::new(),
            unread: Vec::new(),
        };
        let sides = record.completions();
        for (name, messages) in &sides {
            if messages.iter().any(|message| message.scored && !message.finished) {
                inspection.add(Rule::Unfinished, *name);
            }
            if messages.iter().all(says_nothing) {
                inspection.add(Rule::EmptyCompletion, *name);
            } else if let Some(at) =
                messages.iter().position(|message| dropped::is_scored(message) && says_nothing(message))
            {
                inspection.add(Rule::EmptyCompletion, format!("{name}: message {} of {}", at + 1, messages.len()));
            }
        }
        if let (RecordKind::Pair, [(_, chosen), (_, rejected)]) = (record.kind(), &sides[..])
            && same(chosen, rejected)
        {
            inspection.add(Rule::IdenticalSides, "");
        }
        if let Record::Group(group) = record
            && let Some(reason) = degenerate(&group.rewards)
        {
            inspection.add(Rule::DegenerateGroup, reason);
        }
        if let Some(message) = messages(record).find(|message| texts(message).any(is_damaged)) {
            inspection.add(Rule::DamagedText, message.role.as_str());
        }
        if plain(record).is_some_and(is_damaged) {
            inspection.add(Rule::DamagedText, "text");
        }
        inspection
    }

    /// Adds what the reader of the record remarked.
    pub fn remark(&mut self, remarks: Remarks) {
        let Remarks { unread, media, unclear_end, reversed_scores } = remarks;
        self.unread = unread;
        if !media.is_empty() {
            self.add(Rule::MediaUnread, media.join(", "));
        }
        if !unclear_end.is_empty() {
            self.add(Rule::UnclearEnd, unclear_end.join(", "));
        }
        if let Some(scores) = reversed_scores {
            self.add(Rule::ReversedScores, scores);
        }
    }

    /// Adds a broken rule, unless the record breaks it already.
    pub fn add(&mut self, rule: Rule, detail: impl Into<String>) {
        if !self.broken.iter().any(|(known, _)| *known == rule) {
            self.broken.push((rule, detail.into()));
        }
    }

    /// Checks answers for marks of turns other than the tokenizer's own.
    pub fn foreign_markup(&mut self, record: &Record, is_own: impl Fn(&str) -> bool) {
        for (name, messages) in record.completions() {
            let scored = messages.iter().filter(|message| dropped::is_scored(message));
            let mut marks = scored.filter_map(|message| markup::mark_in(&message.content));
            if let Some(mark) = marks.find(|mark| !is_own(mark)) {
                self.add(Rule::ForeignMarkup, format!("{name}: {mark:?}"));
            }
        }
    }

    /// Checks for special tokens that are spelt out in the text.
    pub fn special_tokens(&mut self, record: &Record, tokenizer: &ChatTokenizer) {
        let terminators = tokenizer.terminators().tokens();
        for (name, messages) in record.completions() {
            if let Some(last) = messages.last()
                && let Some(token) = terminators.iter().find(|token| last.content.trim_end().ends_with(**token))
            {
                self.add(Rule::TerminatorInData, format!("{name} ends in {token}"));
            }
        }
        self.foreign_markup(record, |mark| tokenizer.special_token_in(mark).is_some());
        if let Some(token) = plain(record).and_then(|text| tokenizer.special_token_in(text.trim_end())) {
            self.add(Rule::SpecialTokenInText, format!("{token} in a text"));
        }
        for message in messages(record) {
            if let Some(token) = tokenizer.special_token_in(message.content.trim_end()) {
                self.add(Rule::SpecialTokenInText, format!("{token} in a text of role {}", message.role));
            }
        }
    }

    /// Checks the token ids of a record.
    pub fn ids(&mut self, record: &Record, tokenizer: &ChatTokenizer, encoded: &PromptCompletions) {
        let PromptCompletions { prompt_ids: prompt, completion_ids: completions, turns, .. } = encoded;
        for ((name, messages), (ids, turns)) in record.completions().iter().zip(completions.iter().zip(turns)) {
            let scored = || turns.iter().map(|turn| &ids[turn.tokens.clone()]);
            let ends = |turn: &[u32]| turn.iter().filter(|&&id| tokenizer.is_terminator(id)).count();
            if let Some(ends) = scored().map(ends).find(|ends| *ends > 1) {
                self.add(Rule::TerminatorInside, format!("{name}: {ends} terminators in one turn"));
            }
            if let Some(token) = messages.iter().find_map(|message| terminator_inside(message, tokenizer)) {
                self.add(Rule::TerminatorInside, format!("{name}: {token} in a text"));
            }
            let is_bos =
                |turn: &[u32]| tokenizer.bos().is_some_and(|bos| !tokenizer.is_terminator(bos) && turn.contains(&bos));
            if scored().any(is_bos) {
                self.add(Rule::BosInCompletion, *name);
            }
        }
        self.rendered(record, tokenizer, encoded);
        self.prompt_dropped(record, tokenizer);
        if !encoded.is_prompt_whole
            && let Ok(opened) = tokenizer.encode_prompt(record.conversation())
            && opened.len() > prompt.len()
            && opened.starts_with(prompt)
            && straddles(tokenizer, &opened[prompt.len()..], completions)
        {
            self.add(Rule::BoundaryMerge, "");
        }
    }
}

impl Inspection {
    /// Checks what the chat template makes of the prompt.
    pub fn prompt_dropped(&mut self, record: &Record, tokenizer: &ChatTokenizer) {
        let dropped = dropped::of_prompt(record.conversation(), tokenizer.template());
        if !dropped.is_empty() {
            self.add(Rule::PromptDropped, dropped.join(", "));
        }
    }

    /// Checks what the chat template made of the answers.
    fn rendered(&mut self, record: &Record, tokenizer: &ChatTokenizer, encoded: &PromptCompletions) {
        for ((name, messages), text) in record.completions().iter().zip(&encoded.texts) {
            if let Some(part) = dropped::of_answers(record.conversation(), messages, text, tokenizer.template()) {
                self.add(Rule::AnswerDropped, format!("{name}: {part}"));
            }
            if let Some(arguments) = messages.iter().find_map(|message| quoted_arguments(message, text)) {
                self.add(Rule::ArgumentsQuoted, format!("{name}: {arguments}"));
            }
        }
        if !encoded.unopened.trim().is_empty() {
            self.add(Rule::GenerationPrompt, format!("{:?}", encoded.unopened));
        }
        let ends = |messages: &[Message]| messages.iter().map(|message| message.finished).collect::<Vec<_>>();
        if let ([one, other], [(_, chosen), (_, rejected)]) = (&encoded.texts[..], &record.completions()[..])
            && record.kind() == RecordKind::Pair
            && one.trim() == other.trim()
            && ends(chosen) == ends(rejected)
        {
            self.add(Rule::IdenticalSides, "as the chat template renders them");
        }
    }
}

/// The beginning of a call's arguments that are the JSON of an object, and stand in the text as a string.
fn quoted_arguments(message: &Message, text: &str) -> Option<String> {
    const SHOWN: usize = 40;
    let calls = message.fields.get("tool_calls")?.as_array()?;
    calls.iter().find_map(|call| {
        let arguments = call.get("function").unwrap_or(call).get("arguments")?.as_str()?;
        let is_object = serde_json::from_str::<Value>(arguments).is_ok_and(|read| read.is_object());
        let quoted = Value::from(arguments).to_string();
        let is_quoted = is_object && arguments.contains('"') && text.contains(&quoted);
        is_quoted.then(|| quoted.chars().take(SHOWN).collect())
    })
}

/// Prompt and completions, message by message.
fn messages(record: &Record) -> impl Iterator<Item = &Message> {
    let completions = record.completions().into_iter().flat_map(|(_, messages)| messages);
    record.prompt().iter().chain(completions)
}

/// The text of a record without speakers.
fn plain(record: &Record) -> Option<&str> {
    match record {
        Record::Classified(row) => row.text.as_deref(),
        Record::Pair(_) | Record::Group(_) | Record::Unpaired(_) | Record::Example(_) => None,
    }
}

/// The first terminator that an answer spells out before its end.
fn terminator_inside<'a>(message: &Message, tokenizer: &'a ChatTokenizer) -> Option<&'a str> {
    let terminators = tokenizer.terminators().tokens();
    let mut text = message.content.trim_end();
    while let Some(shorter) = terminators.iter().find_map(|token| text.strip_suffix(*token)) {
        text = shorter.trim_end();
    }
    let is_answer = dropped::is_scored(message);
    let may_hold = |token: &str| token.as_bytes().first().is_some_and(|first| text.as_bytes().contains(first));
    terminators.into_iter().find(|token| is_answer && may_hold(token) && text.contains(token))
}

/// True if some completion begins with a token that merges the prompt's last tokens, `rest`, with its own text.
fn straddles(tokenizer: &ChatTokenizer, rest: &[u32], completions: &[Vec<u32>]) -> bool {
    let Ok(rest) = tokenizer.decode(rest) else { return false };
    completions.iter().any(|ids| {
        let first = ids.first().map(|&id| tokenizer.decode(&[id]).unwrap_or_default());
        first.is_some_and(|first| first.len() > rest.len() && first.starts_with(&rest))
    })
}

/// The texts of a message: what it says, and what was thought before.
fn texts(message: &Message) -> impl Iterator<Item = &str> {
    let reasoning = message.fields.get("reasoning_content").and_then(Value::as_str);
    std::iter::once(message.content.as_str()).chain(reasoning)
}

/// True for a text that has lost bytes. Two searches for one character are many times as fast as one for two.
fn is_damaged(text: &str) -> bool {
    text.contains('\0') || text.contains('\u{fffd}')
}

/// True for a message without text, reasoning and tool calls.
fn says_nothing(message: &Message) -> bool {
    texts(message).all(|text| text.trim().is_empty()) && !message.fields.contains_key("tool_calls")
}

/// True if two sides say the same, apart from white space around it.
fn same(a: &[Message], b: &[Message]) -> bool {
    let same = |a: &Message, b: &Message| {
        a.role == b.role
            && a.content.trim() == b.content.trim()
            && (a.finished, a.scored) == (b.finished, b.scored)
            && a.fields == b.fields
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// Characters of each completion of a record.
pub(crate) fn characters(record: &Record) -> Vec<usize> {
    let count = |messages: &[Message]| messages.iter().map(|message| message.content.chars().count()).sum();
    record.completions().into_iter().map(|(_, messages)| count(messages)).collect()
}
