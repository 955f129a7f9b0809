//! Suites and runner: evaluation of a model on prompts that it was not tuned on.
//!
//! - [`suite`], [`prompts`]: what is asked, as data.
//! - [`runner`]: samples a suite with any [`smpo_inference::Generator`]s, streaming to disk, resumable.
//! - [`teacher_forced`]: what the model gives to gold answers and held-out pairs.
//! - [`score`]: the same measures on completions that others generated.
//! - [`measure`](mod@measure): every metric of [`smpo_metrics`], with intervals.
//!
//! The unit of every estimate is the prompt: samples of one prompt are averaged first.

mod input_error;
mod json_rows;
pub mod measure;
pub mod prompts;
pub mod runner;
pub mod score;
pub mod suite;
pub mod teacher_forced;

pub use input_error::InputError;
pub use measure::{ALL, Measured, measure};
pub use prompts::Prompt;
pub use runner::{Progress, RunError, Sampled, sample_suite, write_results};
pub use smpo_metrics::TokenScores;
pub use suite::Suite;
pub use teacher_forced::{HELD_OUT, Item, TeacherForced};
