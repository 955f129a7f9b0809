//! The recorder as a logits processor of the engine.

use std::sync::{Mutex, PoisonError};

use mistralrs::{CustomLogitsProcessor, Device, Tensor};
use smpo_sampling::{LogitsError, Recorder, Recording};

/// Receives the logits (V) of every step of one request, draws the token, and returns a distribution that holds this
/// token alone. Every terminator reaches the engine as `stop`, the one id it stops on.
///
/// mistral.rs 0.8.1 runs one step more on a sequence that ended at its first token; that step returns `stop` and is not
/// recorded.
pub(super) struct RecordingSampler {
    stop: u32,
    prompt_tokens: usize,
    state: Mutex<State>,
}

struct State {
    recorder: Recorder,
    failure: Option<LogitsError>,
}

impl RecordingSampler {
    /// For a prompt of `prompt_tokens` tokens.
    pub fn new(recorder: Recorder, stop: u32, prompt_tokens: usize) -> Self {
        RecordingSampler { stop, prompt_tokens, state: Mutex::new(State { recorder, failure: None }) }
    }

    /// The record so far.
    ///
    /// # Errors
    /// The recorder's, where it refused logits.
    pub fn take(&self) -> Result<Recording, LogitsError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(state.recorder.recording().clone()),
        }
    }
}

impl CustomLogitsProcessor for RecordingSampler {
    fn apply(&self, logits: &Tensor, context: &[u32]) -> mistralrs::Result<Tensor> {
        let vocabulary = logits.elem_count();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { recorder, failure } = &mut *state;
        if recorder.is_finished() {
            return only(self.stop, vec![0.0; vocabulary], logits.device());
        }
        // The engine must be continuing from what was drawn here, or its logits belong to another text.
        let drawn = &recorder.recording().token_ids;
        let continued = context.get(self.prompt_tokens..);
        if continued != Some(&drawn[..]) {
            return Err(std::io::Error::other(format!("it continues from {continued:?}, drawn were {drawn:?}")).into());
        }
        let values: Vec<f32> = logits.to_vec1()?;
        match recorder.step(&values) {
            Ok(step) => only(if step.terminates { self.stop } else { step.token }, values, logits.device()),
            Err(error) => {
                let message = error.to_string();
                *failure = Some(error);
                Err(std::io::Error::other(message).into())
            }
        }
    }
}

/// Logits (V) on `device` with which nothing but `token` can be drawn; `values` (V) is overwritten.
pub(super) fn only(token: u32, mut values: Vec<f32>, device: &Device) -> mistralrs::Result<Tensor> {
    values.fill(f32::NEG_INFINITY);
    if let Some(value) = values.get_mut(token as usize) {
        *value = 0.0;
    }
    let vocabulary = values.len();
    Tensor::from_vec(values, vocabulary, device)
}
