//! The recorder inside the engine.

use std::sync::{Mutex, PoisonError};

use mistralrs::{CustomLogitsProcessor, Device, Tensor};

use crate::{InferenceError, Recorder, Recording};

/// Sees the logits (V) of every step of one request, draws the token, and hands the engine a distribution that has
/// nothing else in it. Every terminator reaches the engine as `stop`, the one id it was told to stop on.
///
/// mistral.rs 0.8.1 takes one step more with a sequence that ended at its first token; that step is answered with
/// `stop` and leaves no trace.
pub(super) struct Steer {
    stop: u32,
    prompt_tokens: usize,
    cap: usize,
    state: Mutex<State>,
}

struct State {
    recorder: Recorder,
    ended: bool,
    failure: Option<InferenceError>,
}

impl Steer {
    /// For a prompt of `prompt_tokens` tokens, and at most `cap` more.
    pub fn new(recorder: Recorder, stop: u32, prompt_tokens: usize, cap: usize) -> Self {
        Steer { stop, prompt_tokens, cap, state: Mutex::new(State { recorder, ended: false, failure: None }) }
    }

    /// What was recorded, or why the recorder refused to go on.
    pub fn take(&self) -> Result<Recording, InferenceError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(state.recorder.recording().clone()),
        }
    }
}

impl CustomLogitsProcessor for Steer {
    fn apply(&self, logits: &Tensor, context: &[u32]) -> mistralrs::Result<Tensor> {
        let vocabulary = logits.elem_count();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { recorder, ended, failure } = &mut *state;
        if *ended {
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
            Ok(step) => {
                *ended = step.terminates || recorder.recording().token_ids.len() == self.cap;
                only(if step.terminates { self.stop } else { step.token }, values, logits.device())
            }
            Err(error) => {
                let message = error.to_string();
                *failure = Some(error);
                Err(std::io::Error::other(message).into())
            }
        }
    }
}

/// Logits (V) on `device` with which nothing but `token` can be drawn, in the room of `values` (V).
pub(super) fn only(token: u32, mut values: Vec<f32>, device: &Device) -> mistralrs::Result<Tensor> {
    values.fill(f32::NEG_INFINITY);
    if let Some(value) = values.get_mut(token as usize) {
        *value = 0.0;
    }
    let vocabulary = values.len();
    Tensor::from_vec(values, vocabulary, device)
}
