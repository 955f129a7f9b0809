//! The rows that training knows, as text and as tokens.

use serde::{Deserialize, Serialize};
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

    /// What kind of row this is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pair(_) => "a preference pair",
            Self::Unpaired(_) => "a labelled completion",
            Self::Example(_) => "an instruction example",
        }
    }
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
