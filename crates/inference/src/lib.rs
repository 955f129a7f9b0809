//! Text generation behind one trait, with mistral.rs inside, and the traits of teacher-forced scorers and of embeddings.
//!
//! A [`Generator`] returns one [`Completion`] for one [`Request`]. Independent of any engine: drawing and recording
//! (`smpo_sampling`), several generators on one list of requests ([`generate_each`]), several servers or devices on one ([`fleet`]), and the comparison of an engine's
//! log-probs with those of a reference forward pass ([`check_fidelity`]).
//!
//! | feature | adds |
//! |---|---|
//! | *(none)* | the trait, [`EncodedPrompt`] for engines that read token ids only, the [`Scripted`] fake |
//! | `mistralrs` | `MistralEngine`: Hugging Face directories, PEFT adapters and GGUF files through mistral.rs |
//! | `http` | `HttpGenerator` and `HttpEmbedder`: any OpenAI-compatible server |
//!
//! Units: log-probs are natural logarithms (nats) of the model's own distribution, at temperature 1 and before any
//! filter; lengths are tokens. Shapes: `V` is the vocabulary.

mod completion;
mod dealt;
mod embedder;
mod error;
mod fidelity;
pub mod fleet;
mod generator;
mod guarded;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "mistralrs")]
pub mod mistral;
mod pool;
mod prompt;
mod request;
mod reward;
mod scripted;
mod served;
mod sync;
mod teacher_forced;

pub use completion::Completion;
pub use embedder::{Embedder, unit};
pub use error::{Fault, InferenceError};
pub use fidelity::{Disagreement, Fidelity, QUANTISED, check_fidelity, default_tolerance};
pub use generator::{EngineInfo, Generator};
pub use guarded::Guarded;
pub use pool::generate_each;
pub use prompt::EncodedPrompt;
pub use request::Request;
pub use reward::RewardModel;
pub use scripted::Scripted;
pub use served::Served;
pub use smpo_sampling::{FinishReason, Sampler, TokenScores};
pub use teacher_forced::{Item, ScorerError, TeacherForced};

#[cfg(feature = "http")]
pub use http::{HttpConfig, HttpEmbedder, HttpGenerator};
#[cfg(feature = "mistralrs")]
pub use mistral::{MistralConfig, MistralEngine};
