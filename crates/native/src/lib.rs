//! The project's own decoder as a [`Generator`], batched as requests come and go.
//!
//! [`NativeGenerator::start`] gives as many generators as requests may be in flight. Behind them a few workers keep
//! one batch each: a request joins at the next step, leaves when it ends, and the step computes whatever is there
//! (continuous batching; Yu et al., OSDI 2022). Other requests change nothing in a completion, to the last bit:
//! [`PackedDecoder`] sees to it.
//!
//! Tokens are drawn and recorded by [`smpo_inference::Recorder`], as with every local engine, so the same seed draws
//! the same completions here and through mistral.rs, up to log-probs that round differently.
//!
//! [`Generator`]: smpo_inference::Generator
//! [`PackedDecoder`]: smpo_model::PackedDecoder

mod generator;
mod queue;
mod worker;

pub use generator::{NativeGenerator, NativeOptions};
