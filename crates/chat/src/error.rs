//! Errors between a model directory and a rendered conversation.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A file of the model directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A file of the model directory has another content than its name says.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Description of the expected content.
        expected: &'static str,
        /// Description of the content.
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
        /// File or setting that the template comes from.
        origin: String,
        /// The parser's message, with the line.
        message: String,
    },
    /// The template itself refused the conversation (`raise_exception`).
    #[error("{origin}: the chat template refuses this conversation: {message}")]
    Refused {
        /// File or setting that the template comes from.
        origin: String,
        /// The template's message.
        message: String,
    },
    /// Rendering failed.
    #[error("{origin}: the chat template failed: {message}")]
    Render {
        /// File or setting that the template comes from.
        origin: String,
        /// The engine's message, with the line.
        message: String,
    },
    /// The template exceeded the bound on instructions or output.
    #[error("{origin}: the chat template did not end within {bound}; it loops, or repeats its input without bound")]
    Unbounded {
        /// File or setting that the template comes from.
        origin: String,
        /// The exceeded bound.
        bound: String,
    },
}
