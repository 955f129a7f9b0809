//! Panics of a generator as errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Completion, EngineInfo, Generator, InferenceError, Request};

/// A generator whose panics are failures of one request.
pub struct Guarded<G>(pub G);

impl<G: Generator> Generator for Guarded<G> {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        catch_unwind(AssertUnwindSafe(|| self.0.generate(request))).unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(InferenceError::Engine {
                prompt_id: request.prompt_id.clone(),
                sample: request.sample,
                engine: self.0.engine().name,
                message: format!("it panicked: {message}"),
            })
        })
    }

    fn engine(&self) -> EngineInfo {
        self.0.engine()
    }
}
