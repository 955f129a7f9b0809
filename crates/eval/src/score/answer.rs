//! A completion in the store, with as little of it as sorting needs.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use smpo_files::{Span, sha256};
use smpo_results::{Message, SCHEMA_VERSION, Sample};

use super::record::Record;
use super::store::Store;
use crate::prompts::prompt_hash;
use crate::slices;

/// A completion and its place in a file. Millions are in memory: what they say stays in the store.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub path: Arc<Path>,
    pub line: usize,
    /// Its sample in the store, under the id and number of its file.
    pub stored: Span,
    /// The model that its file names.
    pub model: Option<Arc<str>>,
    /// Id of its prompt.
    pub id: Arc<str>,
    pub sample: Option<u32>,
    /// Hash of the last message of a prompt whose id is the file's own.
    pub asked: Option<NonZeroU64>,
    pub failed: bool,
    /// True if its slice has a name that no prompt's may have.
    pub reserved: bool,
    pub has: Has,
}

/// The facts of a prompt that a completion's file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Has {
    pub slice: bool,
    pub messages: bool,
    pub reference: bool,
    pub language: bool,
    pub closed: bool,
}

/// Start of the id of a prompt that its row neither names nor tells: the number of the line follows.
const LINE: &str = "line_";

/// True if the prompt is known by the number of its line alone.
pub fn is_known_by_line(sample: &Sample) -> bool {
    let number = |id: &str| id.strip_prefix(LINE).is_some_and(|number| number.parse::<usize>().is_ok());
    sample.messages.is_empty() && number(&sample.prompt_id)
}

impl Answer {
    /// Puts a record into the store; `intern` gives equal texts one place in memory.
    pub fn new(
        path: &Arc<Path>,
        line: usize,
        record: Record,
        intern: &mut impl FnMut(&str) -> Arc<str>,
        store: &mut Store,
    ) -> Result<Self, smpo_results::Error> {
        let id = match &record.id {
            Some(id) => intern(id),
            None if record.messages.is_empty() => intern(&format!("{LINE}{line}")),
            None => intern(&prompt_hash(&record.messages)),
        };
        let own_id = record.id.is_some();
        let asked = asked(&record.messages).filter(|_| own_id);
        let has = Has {
            slice: record.slice.is_some(),
            messages: !record.messages.is_empty(),
            reference: record.reference.is_some(),
            language: record.language.is_some(),
            closed: record.closed,
        };
        let reserved = record.slice.as_deref().is_some_and(|slice| slices::reserved(slice).is_some());
        let (model, number, failed) = (record.model.as_deref().map(intern), record.sample, record.is_failed());
        let stored = store.put(&sample(record))?;
        let asked = asked.map(|text| hash(&text));
        Ok(Answer { path: path.clone(), line, stored, model, id, sample: number, asked, failed, reserved, has })
    }

    /// `path:line`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.line)
    }

    /// True if its prompt is known to end in this text, by its hash alone.
    pub fn asks(&self, text: &str) -> bool {
        self.asked == Some(hash(text))
    }

    /// True if two answers of one prompt and sample hold the same.
    pub fn is_copy_of(&self, other: &Answer, store: &Store) -> Result<bool, smpo_results::Error> {
        let [own, others]: [Sample; 2] = [store.get(self.stored)?, store.get(other.stored)?];
        Ok((&own.completion, &own.reasoning, own.finish_reason, &own.messages)
            == (&others.completion, &others.reasoning, others.finish_reason, &others.messages))
    }
}

/// The last message, white space aside.
pub(super) fn asked(messages: &[Message]) -> Option<String> {
    let words: Vec<&str> = messages.last()?.content.split_whitespace().collect();
    Some(words.join(" ")).filter(|text| !text.is_empty())
}

/// 64 bits of SHA-256, not 0.
fn hash(text: &str) -> NonZeroU64 {
    let digits = &sha256(text.as_bytes())[..16];
    u64::from_str_radix(digits, 16).ok().and_then(NonZeroU64::new).unwrap_or(NonZeroU64::MAX)
}

/// A record as a sample; whoever sorts it gives it the id of its prompt and its number.
pub(super) fn sample(record: Record) -> Sample {
    Sample {
        schema: SCHEMA_VERSION,
        prompt_id: String::new(),
        slice: record.slice.unwrap_or_else(|| slices::PLAIN.into()),
        sample: 0,
        messages: record.messages,
        reference: record.reference,
        closed: record.closed,
        language: record.language,
        reasoning: record.reasoning,
        completion: record.completion,
        token_ids: record.token_ids,
        logps: record.logps,
        terminator_logps: record.terminator_logps,
        unknown_ids: record.unknown_ids,
        finish_reason: record.finish_reason,
        finish_remark: record.finish_remark,
        tokens: record.tokens,
        cap: record.cap,
        worker: None,
        error: record.error,
    }
}
