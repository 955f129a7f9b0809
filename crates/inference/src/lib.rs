//! Text generation behind one trait, with mistral.rs inside.
//!
//! A [`Generator`] answers one [`Request`] with one [`Completion`]. What every generator has in common is kept free
//! of engines: how a token is drawn ([`Sampler`], [`Noise`]), what is recorded at each step ([`Recorder`]), how
//! many generators share a list of requests ([`generate_each`]) and how an engine is held against another forward
//! pass before its numbers are believed ([`check_fidelity`]).
//!
//! | feature | adds |
//! |---|---|
//! | *(none)* | the trait, [`EncodedPrompt`] for engines that read token ids only, the [`Scripted`] fake |
//! | `mistralrs` | `MistralEngine`: Hugging Face directories, PEFT adapters and GGUF files through mistral.rs |
//! | `http` | `HttpGenerator`: any OpenAI-compatible server |
//!
//! Units: log-probs are natural logarithms (nats) of the model's own distribution, at temperature 1 and before any
//! filter; lengths are tokens. Shapes: `V` is the vocabulary.

mod completion;
mod draw;
mod error;
mod fidelity;
mod generator;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "mistralrs")]
pub mod mistral;
mod pool;
mod prompt;
mod recorder;
mod request;
mod sampler;
mod scripted;

pub use completion::{Completion, FinishReason};
pub use draw::{Noise, draw, log_normalizer};
pub use error::InferenceError;
pub use fidelity::{Disagreement, Fidelity, check_fidelity, default_tolerance};
pub use generator::{EngineInfo, Generator};
pub use pool::generate_each;
pub use prompt::EncodedPrompt;
pub use recorder::{Recorder, Recording, Step};
pub use request::Request;
pub use sampler::Sampler;
pub use scripted::Scripted;

#[cfg(feature = "http")]
pub use http::{HttpConfig, HttpGenerator};
#[cfg(feature = "mistralrs")]
pub use mistral::{MistralConfig, MistralEngine};
