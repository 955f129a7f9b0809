//! What can go wrong between a model directory and a rendered conversation.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A file of the model directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the model directory is not what its name says.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected there.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// The directory has no chat template.
    #[error(
        "{}: no chat template: expected chat_template.jinja, chat_template.json or `chat_template` in \
         tokenizer_config.json; put a chat_template.jinja beside config.json, or use a chat model", dir.display()
    )]
    NoTemplate {
        /// The model directory.
        dir: PathBuf,
    },
    /// The template is not valid Jinja.
    #[error("{origin}: the chat template does not parse: {message}")]
    Parse {
        /// Where the template came from.
        origin: String,
        /// The parser's words, with the line.
        message: String,
    },
    /// The template itself refused the conversation (`raise_exception`).
    #[error("{origin}: the chat template refuses this conversation: {message}")]
    Refused {
        /// Where the template came from.
        origin: String,
        /// The template's words.
        message: String,
    },
    /// Rendering failed.
    #[error("{origin}: the chat template failed: {message}")]
    Render {
        /// Where the template came from.
        origin: String,
        /// The engine's words, with the line.
        message: String,
    },
    /// The template ran past the bound on instructions or output.
    #[error("{origin}: the chat template did not end within {bound}; it loops, or repeats its input without bound")]
    Unbounded {
        /// Where the template came from.
        origin: String,
        /// The bound it ran into.
        bound: String,
    },
}
