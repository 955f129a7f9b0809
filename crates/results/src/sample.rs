//! One completion, generated here or read from another generator's file.

use serde::{Deserialize, Serialize};
pub use smpo_chat::Message;
pub use smpo_sampling::FinishReason;

/// One line of `samples.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// [`crate::SCHEMA_VERSION`] of the writer.
    pub schema: u32,
    /// Id of the prompt.
    pub prompt_id: String,
    /// Slice: in-distribution, or a kind of out-of-distribution prompt.
    pub slice: String,
    /// Index among the samples of this prompt, from 0.
    pub sample: u32,
    /// The prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// The gold answer, if the suite has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Only the gold answer is right: `exact_match` and `stops_when_right` apply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// BCP 47 tag of the language that the answer is expected in; its scripts are not foreign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Reasoning that the server returned in a field of its own; the model wrote it before `completion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The completion's text, terminator left out.
    pub completion: String,
    /// The completion's token ids, terminator included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
    /// log p of each token in nats, under the model's own distribution (temperature 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logps: Option<Vec<f32>>,
    /// log p of the whole terminator set at each step, in nats: the EOS hazard of this very run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminator_logps: Option<Vec<f32>>,
    /// Token ids of the completion that no token of the tokenizer has; absent if nobody looked. They leave no trace in
    /// the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_ids: Option<u32>,
    /// Finish reason.
    pub finish_reason: FinishReason,
    /// Remark on the reported end, where it is not simply believed: [`smpo_sampling::Finish::remark`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_remark: Option<String>,
    /// Length in tokens, terminator included; absent if the format does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// The cap in tokens it was sampled under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u32>,
    /// Server (its URL without credentials) or device that it is from, in a run that several share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Error message, for `finish_reason = error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Sample {
    /// The first completion of a prompt, in no slice; everything else is unknown.
    pub fn new(prompt_id: impl Into<String>, completion: impl Into<String>) -> Self {
        Sample {
            schema: crate::SCHEMA_VERSION,
            prompt_id: prompt_id.into(),
            slice: String::new(),
            sample: 0,
            messages: Vec::new(),
            reference: None,
            closed: false,
            language: None,
            reasoning: None,
            completion: completion.into(),
            token_ids: None,
            logps: None,
            terminator_logps: None,
            unknown_ids: None,
            finish_reason: FinishReason::Unknown,
            finish_remark: None,
            tokens: None,
            cap: None,
            worker: None,
            error: None,
        }
    }
}
