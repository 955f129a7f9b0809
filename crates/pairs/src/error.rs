//! Errors of making pairs.

use std::path::PathBuf;

use smpo_inference::{InferenceError, ScorerError};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    /// A judge's prompt lacks a part.
    #[error("{}: {problem}", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// Expected and got.
        problem: String,
    },
    /// The judge failed over and over.
    #[error(
        "the judge failed {count} times in a row, last error: {last}; judgements so far are kept, running again resumes"
    )]
    Judge {
        /// Failures in a row.
        count: usize,
        /// The last one.
        last: InferenceError,
    },
    /// Every judge of several was set aside.
    #[error(
        "no judge is left; {done} of {total} judgements are kept, running again resumes{}",
        judges.iter().map(|(judge, reason)| format!("\n  {judge}: {reason}")).collect::<String>()
    )]
    NoJudgeLeft {
        /// The judges, with the last reason for which each was set aside.
        judges: Vec<(String, String)>,
        /// Questions with a decision.
        done: usize,
        /// All questions.
        total: usize,
    },
    /// A reward model failed.
    #[error("the reward model on the samples of prompt {prompt:?} and those after it: {source}")]
    Reward {
        /// Id of the prompt.
        prompt: String,
        /// The model's error.
        source: ScorerError,
    },
    /// A file.
    #[error(transparent)]
    Results(#[from] smpo_results::Error),
}
