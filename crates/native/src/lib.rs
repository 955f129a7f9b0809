//! The project's own decoder as a [`Generator`] with continuous batching, and as the teacher-forced scorer of an
//! evaluation: [`NativeModel`] loads a model directory for both, and for embeddings.
//!
//! [`NativeGenerator::start`] returns as many generators as requests may be in flight. Behind them a few workers keep
//! one batch each: a request joins at the next step, leaves when it ends, and a step computes the sequences in the batch
//! (continuous batching; Yu et al., OSDI 2022). [`complete()`] runs the same batches on a list of prompts that are token
//! ids already. On the CPU other requests do not change a completion in any bit: [`PackedDecoder`] guarantees it.
//!
//! On a GPU ([`NativeGenerator::start_on_device`], [`complete_on_device`]) a batch has its keys and values there, and its tokens
//! are drawn there, with the same random numbers.
//!
//! Tokens are drawn and recorded by [`smpo_sampling::Recorder`], as with every local engine, so the same seed draws the
//! same completions here and through mistral.rs, up to log-probs that round differently.
//!
//! [`Generator`]: smpo_inference::Generator
//! [`PackedDecoder`]: smpo_model::PackedDecoder

mod backend;
mod batches;
mod complete;
mod embeddings;
mod error;
mod generator;
mod job;
mod label_model;
mod model;
mod options;
mod queue;
mod sync;
mod worker;

pub use complete::{CompleteError, TokenPrompt, complete, complete_on_device};
pub use error::NativeError;
pub use generator::NativeGenerator;
pub use label_model::LabelModel;
pub use model::NativeModel;
pub use options::NativeOptions;
