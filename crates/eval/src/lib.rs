//! Suites, runner and degeneration metrics: what a model does with prompts it was not tuned on, in numbers.
//!
//! - [`suite`], [`prompts`]: what is asked, as data.
//! - [`runner`]: samples a suite with any [`smpo_inference::Generator`]s, streaming to disk, resumable.
//! - [`teacher_forced`]: what the model gives to gold answers and held-out pairs.
//! - [`score`]: the same measures on completions that others generated.
//! - [`metrics`]: what is measured, one file a metric; [`measure`](mod@measure): all of it, with intervals.
//!
//! The unit of every estimate is the prompt: samples of one prompt are averaged first.

pub mod estimate;
mod input_error;
mod json_rows;
pub mod measure;
pub mod metrics;
pub mod prompts;
pub mod runner;
pub mod score;
pub mod suite;
pub mod teacher_forced;
pub mod text;

pub use input_error::InputError;
pub use measure::{ALL, Measured, measure};
pub use metrics::MetricInfo;
pub use prompts::Prompt;
pub use runner::{Progress, RunError, Sampled, sample_suite, write_results};
pub use suite::Suite;
pub use teacher_forced::{HELD_OUT, Item, TeacherForced, TokenScores};
