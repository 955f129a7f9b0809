//! The end of a completion, and the ways in which other programs report it.

mod reported;
mod words;

use serde::{Deserialize, Serialize};

pub use reported::{Evidence, Finish, Reported};

/// Reason for which a completion ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model drew a terminator of its full set.
    Eos,
    /// A stop string cut it. No engine here sends one; completions sampled elsewhere may have been cut so.
    Stop,
    /// It reached the cap: right-censored.
    Length,
    /// A server's repetition detector cut it: not ended, and looping.
    Repetition,
    /// The engine failed; the text is what had arrived.
    Error,
    /// The engine or the file format does not say.
    #[default]
    Unknown,
}

impl FinishReason {
    /// The meaning of a reported word, however it is spelt (`max_tokens`, `MAX_TOKENS`, `maxTokens`, `max-tokens`);
    /// `None` for a word that no known program uses. Where more than a word is reported, [`Reported`] reads it.
    pub fn of_word(word: &str) -> Option<Self> {
        words::meaning(word)
    }

    /// True if the model ended by itself, false if it was cut before it did; `None` where that is not known.
    pub fn ended(self) -> Option<bool> {
        match self {
            Self::Eos => Some(true),
            Self::Length | Self::Repetition => Some(false),
            Self::Stop | Self::Error | Self::Unknown => None,
        }
    }
}
