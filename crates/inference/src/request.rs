//! One completion to be sampled.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smpo_chat::Message;
use smpo_sampling::{OutOfRange, Sampler};

use crate::InferenceError;

/// One completion to be sampled. `(seed, prompt_id, sample)` determines the random numbers, so a request can be
/// repeated, in any order and on any instance, and two models share them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Id of the prompt in its suite.
    pub prompt_id: String,
    /// Number of the sample of this prompt, from 0.
    pub sample: u32,
    /// The conversation so far; the model's own template renders it.
    pub messages: Vec<Message>,
    /// Sampler parameters.
    pub sampler: Sampler,
    /// Cap on generated tokens, terminator included.
    pub max_tokens: u32,
    /// The run's sampling seed.
    pub seed: u64,
    /// Further fields of this request's body, for servers: `response_format` for example.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra_body: Map<String, Value>,
}

impl Request {
    /// Checks the ranges: at least one message, a cap of at least one token, a sampler in range.
    ///
    /// # Errors
    /// [`InferenceError::InvalidRequest`], naming the field.
    pub fn validate(&self) -> Result<(), InferenceError> {
        let invalid = |problem| InferenceError::InvalidRequest { prompt_id: self.prompt_id.clone(), problem };
        let out = |field, expected, got: &str| Err(invalid(OutOfRange { field, expected, got: got.into() }));
        if self.messages.is_empty() {
            return out("messages", "at least one message", "none");
        }
        if self.max_tokens == 0 {
            return out("max_tokens", "at least 1", "0");
        }
        self.sampler.check().map_err(invalid)
    }
}
