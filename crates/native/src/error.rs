//! Errors of loading and running the native model.

use std::path::PathBuf;

use smpo_inference::InferenceError;
use smpo_model::ModelError;
use smpo_tokenizer::TokenizerError;

/// Errors of [`crate::NativeModel`].
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// The weights or the forward pass.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer or chat template.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A classifier where a reward model is needed.
    #[error("{}: expected a reward model, which gives one number for a text, got {got}", path.display())]
    NoReward {
        /// Model directory.
        path: PathBuf,
        /// Kind of model found.
        got: String,
    },
    /// The generators.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}
