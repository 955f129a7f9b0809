//! The result of one request.

use serde::{Deserialize, Serialize};
use smpo_sampling::FinishReason;

/// One completion. The vectors, where present, are aligned: one entry per generated token, terminator included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The decoded text: terminator left out, white space untouched, other special tokens shown.
    pub text: String,
    /// Reasoning that a server returned in a field of its own; the model wrote it before `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The generated tokens, terminator included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
    /// Generated ids that no token of the tokenizer has; `None` where that was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_ids: Option<u32>,
    /// Log-prob of each generated token, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logps: Option<Vec<f32>>,
    /// Log-prob of the whole terminator set before each generated token, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminator_logps: Option<Vec<f32>>,
    /// Text of each token, where a server reports that in place of ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Vec<String>>,
    /// Number of generated tokens, terminator included, where the engine reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// The cap in force, in tokens: the requested one, or less where the model's position limit is nearer.
    pub cap: u32,
    /// Reason for which it ended.
    pub finish: FinishReason,
    /// Remark on the end that a server reported, where it is not simply believed ([`smpo_sampling::Finish`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_remark: Option<String>,
}

impl Completion {
    /// A text that ended with a terminator, under no cap; everything else is unknown.
    pub fn new(text: impl Into<String>) -> Self {
        Completion {
            text: text.into(),
            reasoning: None,
            token_ids: None,
            unknown_ids: None,
            logps: None,
            terminator_logps: None,
            pieces: None,
            tokens: None,
            cap: u32::MAX,
            finish: FinishReason::Eos,
            finish_remark: None,
        }
    }
}
