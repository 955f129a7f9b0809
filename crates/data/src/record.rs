//! The rows that training knows, as text and as tokens.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smpo_chat::Message;

/// A prompt with a preferred and a rejected completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferencePair {
    /// The row's own id, or the hash of its content.
    pub id: String,
    /// The conversation before the completion; never empty.
    pub prompt: Vec<Message>,
    /// The preferred side: begins and ends with an assistant message.
    pub chosen: Vec<Message>,
    /// The rejected side: begins and ends with an assistant message.
    pub rejected: Vec<Message>,
}

/// A prompt with one completion to learn (SFT).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The row's own id, or the hash of its content.
    pub id: String,
    /// The conversation before the completion; never empty.
    pub prompt: Vec<Message>,
    /// Begins and ends with an assistant message.
    pub completion: Vec<Message>,
}

/// A prompt with one completion and whether it is wanted (KTO).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpairedExample {
    /// The row's own id, or the hash of its content.
    pub id: String,
    /// The conversation before the completion; never empty.
    pub prompt: Vec<Message>,
    /// Begins and ends with an assistant message.
    pub completion: Vec<Message>,
    /// Whether the completion is desirable.
    pub label: bool,
}

/// Any row a file may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// `prompt`, `chosen`, `rejected`.
    Pair(PreferencePair),
    /// `prompt`, `completion`, `label`.
    Unpaired(UnpairedExample),
    /// `prompt`, `completion`, or a conversation.
    Example(Example),
}

impl Record {
    /// The row's id.
    pub fn id(&self) -> &str {
        match self {
            Self::Pair(row) => &row.id,
            Self::Unpaired(row) => &row.id,
            Self::Example(row) => &row.id,
        }
    }

    /// The conversation before the completion.
    pub fn prompt(&self) -> &[Message] {
        match self {
            Self::Pair(row) => &row.prompt,
            Self::Unpaired(row) => &row.prompt,
            Self::Example(row) => &row.prompt,
        }
    }

    /// The completions by name: `chosen` and `rejected`, or `completion`.
    pub fn completions(&self) -> Vec<(&'static str, &[Message])> {
        match self {
            Self::Pair(row) => vec![("chosen", &row.chosen), ("rejected", &row.rejected)],
            Self::Unpaired(row) => vec![("completion", &row.completion)],
            Self::Example(row) => vec![("completion", &row.completion)],
        }
    }

    /// What the row says, apart from its id: 64 bits of SHA-256, the same wherever the row stands. In hexadecimal it is the
    /// id of rows that bring none.
    pub fn content_hash(&self) -> u64 {
        match self {
            Self::Pair(row) => content_hash(None, &[&row.prompt, &row.chosen, &row.rejected]),
            Self::Unpaired(row) => content_hash(Some(row.label), &[&row.prompt, &row.completion]),
            Self::Example(row) => content_hash(None, &[&row.prompt, &row.completion]),
        }
    }

    /// What kind of row this is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pair(_) => "a preference pair",
            Self::Unpaired(_) => "a labelled completion",
            Self::Example(_) => "an instruction example",
        }
    }
}

pub(crate) fn content_hash(label: Option<bool>, parts: &[&[Message]]) -> u64 {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        // lengths before parts, so that no two rows run together into the same bytes
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    if let Some(label) = label {
        add(if label { "1" } else { "0" });
    }
    for messages in parts {
        add(&messages.len().to_string());
        for message in *messages {
            add(&message.role);
            add(&message.content);
        }
    }
    hash.finalize().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// A preference pair as token ids: one prompt, two completions that each end in exactly one terminator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizedPair {
    /// The pair's id.
    pub id: String,
    /// The prompt, shared by both sides.
    pub prompt: Vec<u32>,
    /// The preferred completion, terminator included.
    pub chosen: Vec<u32>,
    /// The rejected completion, terminator included.
    pub rejected: Vec<u32>,
}

/// An SFT example as token ids; the completion ends in exactly one terminator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizedExample {
    /// The example's id.
    pub id: String,
    /// The prompt.
    pub prompt: Vec<u32>,
    /// The completion, terminator included.
    pub completion: Vec<u32>,
}

/// A labelled completion as token ids; the completion ends in exactly one terminator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizedUnpaired {
    /// The row's id.
    pub id: String,
    /// The prompt.
    pub prompt: Vec<u32>,
    /// The completion, terminator included.
    pub completion: Vec<u32>,
    /// Whether the completion is desirable.
    pub label: bool,
}
