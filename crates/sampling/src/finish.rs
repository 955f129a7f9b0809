//! The end of a completion, and the words of other programs for it.

use serde::{Deserialize, Serialize};

/// Reason for which a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    Unknown,
}

/// Reported words, in lower case, with their meaning: the one table for servers, answer files and training data.
const WORDS: &[(&str, FinishReason)] = &[
    // OpenAI, vLLM, SGLang, llama.cpp; with a stop string beside it the caller reads `Stop`
    ("stop", FinishReason::Eos),
    // smpo, Ollama, text-generation-inference, Anthropic
    ("eos", FinishReason::Eos),
    ("eos_token", FinishReason::Eos),
    ("end_turn", FinishReason::Eos),
    ("stop_sequence", FinishReason::Stop),
    ("length", FinishReason::Length),
    ("max_tokens", FinishReason::Length),
    // vLLM's repetition detector
    ("repetition", FinishReason::Repetition),
    ("error", FinishReason::Error),
    ("unknown", FinishReason::Unknown),
    ("", FinishReason::Unknown),
    ("content_filter", FinishReason::Unknown),
    ("tool_calls", FinishReason::Unknown),
    ("function_call", FinishReason::Unknown),
    ("abort", FinishReason::Unknown),
    ("cancelled", FinishReason::Unknown),
];

impl FinishReason {
    /// The meaning of a reported word, in any case; `None` for a word that no known program uses.
    pub fn of_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        WORDS.iter().find(|(known, _)| *known == word).map(|(_, reason)| *reason)
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
