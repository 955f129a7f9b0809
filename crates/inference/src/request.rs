//! What a generator is asked.

use serde::{Deserialize, Serialize};
use smpo_chat::Message;

use crate::{InferenceError, Sampler};

/// One completion to be sampled. `(seed, prompt_id, sample)` determines the random numbers, so a request can be
/// repeated, in any order and on any instance, and two models asked the same share them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Which prompt of the suite.
    pub prompt_id: String,
    /// Which of the samples of this prompt, from 0.
    pub sample: u32,
    /// The conversation so far; the model's own template renders it.
    pub messages: Vec<Message>,
    /// How tokens are drawn.
    pub sampler: Sampler,
    /// Cap on generated tokens, terminator included.
    pub max_tokens: u32,
    /// The run's sampling seed.
    pub seed: u64,
}

impl Request {
    /// Checks what no engine needs to be asked for: at least one message, a cap of at least one token, a sampler in
    /// range.
    ///
    /// # Errors
    /// [`InferenceError::InvalidRequest`], naming the field.
    pub fn validate(&self) -> Result<(), InferenceError> {
        let invalid = |field, expected, got: String| InferenceError::InvalidRequest {
            prompt_id: self.prompt_id.clone(),
            field,
            expected,
            got,
        };
        if self.messages.is_empty() {
            return Err(invalid("messages", "at least one message", "none".into()));
        }
        if self.max_tokens == 0 {
            return Err(invalid("max_tokens", "at least 1", "0".into()));
        }
        self.sampler.validate().map_err(|(field, expected, got)| invalid(field, expected, got))
    }
}
