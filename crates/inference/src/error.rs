//! What can go wrong between a request and its completion.

use std::path::PathBuf;

/// Errors of loading a model and of generating with it.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// A file that the model needs is not there.
    #[error("{}: missing {what}; {remedy}", path.display())]
    MissingFile {
        /// The file that was looked for.
        path: PathBuf,
        /// What it would hold.
        what: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A file of the model says something that cannot be used.
    #[error("{}: {problem}; {remedy}", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// What is wrong: expected and got.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The chat template, or what the files say about terminators, cannot be used.
    #[error(transparent)]
    Chat(#[from] Box<smpo_chat::ChatError>),
    /// The engine refused the model.
    #[error("{}: {engine} could not load it: {message}", path.display())]
    Load {
        /// The model.
        path: PathBuf,
        /// The engine.
        engine: &'static str,
        /// What it said.
        message: String,
    },
    /// A request that no engine should be asked.
    #[error("prompt {prompt_id:?}: {field} must be {expected}, got {got}")]
    InvalidRequest {
        /// The prompt.
        prompt_id: String,
        /// The field of [`crate::Request`].
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What it was.
        got: String,
    },
    /// The chat template or the tokenizer failed on this conversation.
    #[error("prompt {prompt_id:?}: could not be turned into tokens: {message}")]
    Prompt {
        /// The prompt.
        prompt_id: String,
        /// What happened.
        message: String,
    },
    /// The prompt leaves no room below the model's position limit.
    #[error(
        "prompt {prompt_id:?}: {tokens} tokens long, expected fewer than the model's position limit of {limit}; \
         shorten the prompt or drop it from the suite"
    )]
    PromptTooLong {
        /// The prompt.
        prompt_id: String,
        /// Its length in tokens.
        tokens: usize,
        /// The model's `max_position_embeddings`.
        limit: usize,
    },
    /// The model's forward pass gave something that is no distribution.
    #[error(
        "step {step}: the logit of token {token} is {value}, expected a finite number or -inf; \
         the weights or the arithmetic (dtype) are broken"
    )]
    BrokenLogits {
        /// Generated tokens before this one.
        step: usize,
        /// The first token concerned.
        token: usize,
        /// Its logit.
        value: f32,
    },
    /// Every token has probability 0.
    #[error("step {step}: all {vocabulary} logits are -inf; the weights or the arithmetic (dtype) are broken")]
    NoToken {
        /// Generated tokens before this one.
        step: usize,
        /// `V`.
        vocabulary: usize,
    },
    /// The engine failed on this request; the next may succeed.
    #[error("prompt {prompt_id:?}, sample {sample}: {engine}: {message}")]
    Engine {
        /// The prompt.
        prompt_id: String,
        /// The sample.
        sample: u32,
        /// The engine.
        engine: String,
        /// What it said.
        message: String,
    },
    /// A server's address or the way to ask it is out of range.
    #[error("server{}: {message}", if url.is_empty() { String::new() } else { format!(" {url}") })]
    Server {
        /// The server, where it is known.
        url: String,
        /// The field, expected and got.
        message: String,
    },
    /// A server did not answer, or not with a completion.
    #[error(
        "prompt {prompt_id:?}, sample {sample}: {url}{}: {message} (attempt {attempts})",
        status.map(|status| format!(" answered {status}")).unwrap_or_default()
    )]
    Http {
        /// The prompt.
        prompt_id: String,
        /// The sample.
        sample: u32,
        /// The server, without credentials.
        url: String,
        /// The last status, where there was an answer.
        status: Option<u16>,
        /// How often it was asked.
        attempts: u32,
        /// What it said, or what failed.
        message: String,
    },
    /// The scripted generator has nothing for this prompt.
    #[error("prompt {prompt_id:?}: no scripted completion (scripted: {known})")]
    Unscripted {
        /// The prompt.
        prompt_id: String,
        /// The prompts that are scripted.
        known: String,
    },
    /// A re-scoring does not fit the completion it re-scores.
    #[error("prompt {prompt_id:?}, sample {sample}: re-scored {got} tokens, expected {expected}")]
    RescoredLength {
        /// The prompt.
        prompt_id: String,
        /// The sample.
        sample: u32,
        /// Tokens of the completion.
        expected: usize,
        /// Log-probs that came back.
        got: usize,
    },
    /// The caller's own forward pass failed.
    #[error("prompt {prompt_id:?}, sample {sample}: could not be re-scored: {message}")]
    Rescore {
        /// The prompt.
        prompt_id: String,
        /// The sample.
        sample: u32,
        /// What it said.
        message: String,
    },
    /// No completion carries token ids with log-probs.
    #[error("nothing to check: none of {completions} completions carries token ids with log-probs")]
    NothingToRescore {
        /// How many were given.
        completions: usize,
    },
}
