//! The one interface of everything that completes a chat.

use serde::{Deserialize, Serialize};

use crate::{Completion, InferenceError, Request};

/// What produced the completions, for the run's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// `mistral.rs`, `openai-compatible`, `scripted`, …
    pub name: String,
    /// Its version, or empty where it cannot be known (a server).
    pub version: String,
    /// Arithmetic, `f32` for example, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// `cpu`, `cuda:0`, or the URL of a server.
    pub device: String,
}

/// Completes chats, one at a time. For speed use several, each on its own thread ([`crate::generate_each`]).
pub trait Generator: Send {
    /// Samples one completion.
    ///
    /// # Errors
    /// [`InferenceError`]. After an error the generator is ready for the next request.
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError>;

    /// What this generator is.
    fn engine(&self) -> EngineInfo;
}

impl<G: Generator + ?Sized> Generator for Box<G> {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        (**self).generate(request)
    }

    fn engine(&self) -> EngineInfo {
        (**self).engine()
    }
}
