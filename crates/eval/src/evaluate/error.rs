//! Errors of an evaluation.

use std::path::PathBuf;

use crate::fidelity::FidelityError;
use crate::input_error::InputError;
use crate::reward::RewardError;
use crate::runner::RunError;
use crate::teacher_forced::TeacherForcedError;

/// Errors of [`crate::evaluate()`](fn@crate::evaluate).
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A file of an earlier run could not be removed.
    #[error("{}: cannot remove: {source}", path.display())]
    Restart {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The suite.
    #[error(transparent)]
    Suite(#[from] InputError),
    /// The fidelity check failed.
    #[error(transparent)]
    Fidelity(#[from] FidelityError),
    /// Sampling failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Every sample failed.
    #[error("the engine failed on every sample, so nothing is measured; running again retries them: {first}")]
    NothingSampled {
        /// The first sample's error.
        first: String,
    },
    /// Gold answers or held-out pairs could not be scored.
    #[error("suite {suite}: {source}")]
    TeacherForced {
        /// The suite's name.
        suite: String,
        /// The error.
        source: TeacherForcedError,
    },
    /// The reward model failed.
    #[error(transparent)]
    Reward(#[from] RewardError),
    /// The results could not be written.
    #[error(transparent)]
    Results(#[from] smpo_results::Error),
}
