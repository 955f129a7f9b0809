//! A prompt on its way from a caller to a worker.

use std::sync::mpsc::Sender;

use smpo_model::ModelError;
use smpo_sampling::{LogitsError, Recorder, Recording};

/// One prompt to be completed.
pub(crate) struct Job {
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    pub recorder: Recorder,
    pub reply: Sender<Result<Recording, Failure>>,
}

impl Job {
    /// Tokens of prompt and completion at their longest: the room it needs in the key–value cache.
    pub fn room(&self) -> usize {
        self.prompt.len() + self.recorder.cap()
    }
}

/// Reason for which a prompt has no completion.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The logits are no distribution.
    #[error(transparent)]
    Logits(#[from] LogitsError),
    /// Message of the model.
    #[error("{0}")]
    Model(String),
    /// The device's.
    #[error("{0}")]
    Device(String),
}

impl From<&ModelError> for Failure {
    fn from(error: &ModelError) -> Self {
        let of = if error.is_of_the_device() { Self::Device } else { Self::Model };
        of(error.to_string())
    }
}
