//! The project's own decoder as a [`Generator`] with continuous batching, and as the teacher-forced scorer of an
//! evaluation.
//!
//! [`NativeModel`] loads a model directory for both. [`NativeGenerator::start`] gives as many generators as requests may be in flight. Behind them a few workers keep
//! one batch each: a request joins at the next step, leaves when it ends, and the step computes whatever is there
//! (continuous batching; Yu et al., OSDI 2022). Other requests change nothing in a completion, to the last bit:
//! [`PackedDecoder`] sees to it.
//!
//! Tokens are drawn and recorded by [`smpo_inference::Recorder`], as with every local engine, so the same seed draws
//! the same completions here and through mistral.rs, up to log-probs that round differently.
//!
//! [`Generator`]: smpo_inference::Generator
//! [`PackedDecoder`]: smpo_model::PackedDecoder

mod error;
mod generator;
mod model;
mod queue;
mod worker;

pub use error::NativeError;
pub use generator::{NativeGenerator, NativeOptions};
pub use model::NativeModel;
