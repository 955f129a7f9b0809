//! What a generator hands back.

use serde::{Deserialize, Serialize};

/// Why a completion ended. There is no "stop string": none is ever sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model drew a terminator of its full set.
    Eos,
    /// It reached the cap: right-censored.
    Length,
    /// The engine did not say, or said something that is neither.
    Unknown,
}

/// One completion. The vectors, where present, are aligned: one entry per generated token, terminator included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The decoded text: terminator left out, white space untouched, other special tokens shown.
    pub text: String,
    /// The generated tokens, terminator included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
    /// log p of each generated token, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logps: Option<Vec<f32>>,
    /// log p of the whole terminator set before each generated token, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminator_logps: Option<Vec<f32>>,
    /// The text of each token, where a server shows that in place of ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Vec<String>>,
    /// Number of generated tokens, terminator included, where the engine says or shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// The cap in tokens that was in force: the requested one, or less where the model's position limit is nearer.
    pub cap: u32,
    /// Why it ended.
    pub finish: FinishReason,
}
