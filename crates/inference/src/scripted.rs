//! A generator with scripted completions, for tests of the code above the engine.

use std::collections::BTreeMap;

use crate::{Completion, EngineInfo, FinishReason, Generator, InferenceError, Request};

/// Completions by prompt id from a table; sample `k` of a prompt gets the `k`-th of its completions, wrapping around.
#[derive(Debug, Clone, Default)]
pub struct Scripted {
    completions: BTreeMap<String, Vec<Result<Completion, String>>>,
}

impl Scripted {
    /// An empty script.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a completion of this prompt.
    pub fn completion(mut self, prompt_id: impl Into<String>, completion: Completion) -> Self {
        self.completions.entry(prompt_id.into()).or_default().push(Ok(completion));
        self
    }

    /// Adds a text without tokens, that ended with a terminator.
    pub fn text(self, prompt_id: impl Into<String>, text: impl Into<String>) -> Self {
        self.completion(prompt_id, Completion::new(text))
    }

    /// Adds a failure.
    pub fn failure(mut self, prompt_id: impl Into<String>, message: impl Into<String>) -> Self {
        self.completions.entry(prompt_id.into()).or_default().push(Err(message.into()));
        self
    }
}

impl Generator for Scripted {
    /// A scripted completion longer than the request's cap is cut there and finishes with `length`, as with an engine.
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        request.validate()?;
        let script = self.completions.get(&request.prompt_id).ok_or_else(|| InferenceError::Unscripted {
            prompt_id: request.prompt_id.clone(),
            known: self.completions.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let mut completion =
            script[request.sample as usize % script.len()].clone().map_err(|message| InferenceError::Engine {
                prompt_id: request.prompt_id.clone(),
                sample: request.sample,
                engine: "scripted".into(),
                message,
            })?;
        completion.cap = completion.cap.min(request.max_tokens);
        if completion.token_ids.as_ref().is_some_and(|ids| ids.len() > completion.cap as usize) {
            let cap = completion.cap as usize;
            for values in [&mut completion.logps, &mut completion.terminator_logps].into_iter().flatten() {
                values.truncate(cap);
            }
            if let Some(ids) = &mut completion.token_ids {
                ids.truncate(cap);
            }
            completion.tokens = Some(completion.cap);
            completion.finish = FinishReason::Length;
        }
        Ok(completion)
    }

    fn engine(&self) -> EngineInfo {
        EngineInfo {
            name: "scripted".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            dtype: None,
            device: "none".into(),
        }
    }
}
