//! Errors of loading and running the native model.

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
    /// The generators.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}
