//! Errors of loading a model and of completing a request.

use std::path::PathBuf;
use std::time::Duration;

/// Errors of loading a model and of generating with it.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// A file that the model needs is not there.
    #[error("{}: missing {what}; {remedy}", path.display())]
    MissingFile {
        /// The file that was looked for.
        path: PathBuf,
        /// Content of the file.
        what: &'static str,
        /// Remedy.
        remedy: String,
    },
    /// A file of the model is malformed or unsupported.
    #[error("{}: {problem}; {remedy}", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// Problem: expected and got.
        problem: String,
        /// Remedy.
        remedy: String,
    },
    /// Tokenizer, chat template or terminators cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] Box<smpo_tokenizer::TokenizerError>),
    /// A GGUF file is damaged.
    #[error(transparent)]
    Gguf(#[from] smpo_gguf::GgufError),
    /// The engine refused the model.
    #[error("{}: {engine} could not load it: {message}", path.display())]
    Load {
        /// The model.
        path: PathBuf,
        /// The engine.
        engine: &'static str,
        /// Its message.
        message: String,
    },
    /// A field of [`crate::Request`] is out of range.
    #[error("prompt {prompt_id:?}: {problem}")]
    InvalidRequest {
        /// The prompt.
        prompt_id: String,
        /// Field, range and value.
        problem: smpo_sampling::OutOfRange,
    },
    /// The chat template or the tokenizer failed on this conversation.
    #[error("prompt {prompt_id:?}: could not be turned into tokens: {message}")]
    Prompt {
        /// The prompt.
        prompt_id: String,
        /// Message of the template or the tokenizer.
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
    /// The model's forward pass gave logits that are no distribution.
    #[error(transparent)]
    Logits(#[from] smpo_sampling::LogitsError),
    /// The engine failed on this request; the next may succeed.
    #[error("prompt {prompt_id:?}, sample {sample}: {engine}: {message}")]
    Engine {
        /// The prompt.
        prompt_id: String,
        /// The sample.
        sample: u32,
        /// The engine.
        engine: String,
        /// Its message.
        message: String,
    },
    /// A server's address or configuration is out of range.
    #[error("server{}: {message}", if url.is_empty() { String::new() } else { format!(" {url}") })]
    Server {
        /// The server, where it is known.
        url: String,
        /// The field, expected and got.
        message: String,
    },
    /// A server returned no completion.
    #[error(
        "prompt {prompt_id:?}, sample {sample}: {url}{}: {message} (attempt {attempts})",
        status.map_or(" gave no answer".to_owned(), |status| format!(" answered {status}"))
    )]
    Http {
        /// The prompt.
        prompt_id: String,
        /// The sample.
        sample: u32,
        /// The URL that was asked, without credentials.
        url: String,
        /// HTTP status of the last answer, if there was one.
        status: Option<u16>,
        /// Number of attempts.
        attempts: u32,
        /// Message of the server, or of the connection.
        message: String,
        /// The next request would fail as well: no server there, another kind of server, no access.
        fatal: bool,
        /// Pause that the server requests, where it is longer than a client waits.
        pause: Option<Duration>,
    },
    /// There are no embeddings of some texts.
    #[error("{source_name}: no embeddings: {message}")]
    Embeddings {
        /// The server or the model.
        source_name: String,
        /// The problem.
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
    /// The reference forward pass failed.
    #[error("prompt {prompt_id:?}, sample {sample}: could not be re-scored: {message}")]
    Rescore {
        /// The prompt.
        prompt_id: String,
        /// The sample.
        sample: u32,
        /// Its message.
        message: String,
    },
    /// No completion carries token ids with log-probs.
    #[error("nothing to check: none of {completions} completions carries token ids with log-probs")]
    NothingToRescore {
        /// Number of completions given.
        completions: usize,
    },
}

impl InferenceError {
    /// True if the next request would fail as well, so that a run had better stop.
    pub fn is_fatal(&self) -> bool {
        matches!(self, InferenceError::Http { fatal: true, .. })
    }

    /// The cause, which decides where the request is tried next.
    pub fn fault(&self) -> Fault {
        match self {
            InferenceError::Http { status: None, .. } => Fault::Engine,
            InferenceError::Http { fatal: true, pause: None, .. } => Fault::Lasting,
            InferenceError::Http { status: Some(400..=499), fatal: false, .. } if !self.is_transient() => {
                Fault::Refused
            }
            InferenceError::InvalidRequest { .. }
            | InferenceError::Prompt { .. }
            | InferenceError::PromptTooLong { .. }
            | InferenceError::Unscripted { .. } => Fault::Request,
            _ => Fault::Engine,
        }
    }

    /// True for a server's answer that says so much as "later".
    fn is_transient(&self) -> bool {
        matches!(self, InferenceError::Http { status: Some(408 | 425 | 429), .. })
    }

    /// The pause that a server requests, where it is longer than a client waits.
    pub fn requested_pause(&self) -> Option<Duration> {
        match self {
            InferenceError::Http { pause, .. } => *pause,
            _ => None,
        }
    }

    /// The message without prompt, sample and address, for a line that names the engine.
    pub fn reason(&self) -> String {
        match self {
            InferenceError::Http { status: Some(status), message, .. } => format!("it answered {status}: {message}"),
            InferenceError::Http { status: None, message, .. } => format!("it gave no answer: {message}"),
            InferenceError::Engine { message, .. } => message.clone(),
            _ => self.to_string(),
        }
    }
}

/// Cause of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request: it fails on every engine of the model.
    Request,
    /// The request, on this engine: another may have other limits.
    Refused,
    /// The engine, for now.
    Engine,
    /// The engine, for good.
    Lasting,
}
