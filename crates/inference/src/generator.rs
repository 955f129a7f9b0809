//! The interface of every sampling engine.

use serde::{Deserialize, Serialize};

use crate::{Completion, InferenceError, Request};

/// Name, version, dtype and device of an engine, for the run's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// `mistral.rs`, `openai-compatible`, `scripted`, …
    pub name: String,
    /// Its version, or empty where it cannot be known (a server).
    pub version: String,
    /// Dtype of the arithmetic, `f32` for example, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// `cpu`, `cuda:0`, or the URL of a server.
    pub device: String,
}

/// Completes chats, one request at a time. For speed use several, each on its own thread ([`crate::generate_each`]).
pub trait Generator: Send {
    /// Samples one completion.
    ///
    /// # Errors
    /// [`InferenceError`]. After an error the generator is ready for the next request.
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError>;

    /// Name, version, dtype and device.
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
