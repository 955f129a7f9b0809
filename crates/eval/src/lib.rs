//! Evaluation: suites, sampling, teacher-forced scores and degeneration metrics.
//!
//! [`evaluate()`](fn@evaluate) does all of it, with any engine: [`Engines`] takes implementations of
//! [`smpo_inference::Generator`] and, for the fidelity check and the teacher-forced metrics, of [`TeacherForced`].
//!
//! - [`suite`], [`prompts`]: prompts and how to sample them, as data.
//! - [`mod@evaluate`]: fidelity check, sampling, teacher-forced metrics, results on disk.
//! - [`runner`]: sampling alone, streaming to disk, resumable; on one worker or several.
//! - [`teacher_forced`]: scores of gold answers and held-out pairs.
//! - [`reward`]: rewards of the samples by a reward model.
//! - [`score`]: the same metrics on completions from elsewhere.
//! - [`measure`](mod@measure): every metric of [`smpo_metrics`], with intervals.
//!
//! The unit of every estimate is the prompt: samples of one prompt are averaged first.

mod conversation;
pub mod evaluate;
pub mod fidelity;
mod input_error;
mod json_rows;
pub mod measure;
pub mod prompts;
pub mod reward;
pub mod runner;
pub mod score;
mod shipped;
pub mod slices;
pub mod suite;
pub mod teacher_forced;
pub mod weights;

pub use evaluate::{
    Disagreement, Engines, EvaluateError, Event, FidelityCheck, Options, Report, Server, Worker, disagreements,
    evaluate,
};
pub use fidelity::FidelityError;
pub use input_error::InputError;
pub use measure::{Measured, measure};
pub use prompts::Prompt;
pub use runner::{Incident, Progress, RunError, Sampled, Supervision, sample_on_fleet, sample_suite, write_results};
pub use shipped::{is_name as is_shipped_name, names as shipped_suites};
pub use slices::{ALL, HELD_OUT};
pub use smpo_inference::{Item, ScorerError, TeacherForced, TokenScores};
pub use suite::Suite;
