//! Errors between a model directory and a rendered conversation.

use std::path::{Path, PathBuf};

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
    #[error("{}: no chat template: {}", dir.display(), way_out(dir))]
    NoTemplate {
        /// The model directory, or a GGUF file.
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

/// Places of a template, and what to do where none has one.
fn way_out(model: &Path) -> &'static str {
    match model.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) {
        true => {
            "expected `tokenizer.chat_template` in the file; give one: `--chat-template FILE` for `smpo data`, `--base DIR`, \
             a directory with the original model's tokenizer and chat template, for `smpo eval` and `smpo logps`, \
             `chat_template` in the configuration of a training run"
        }
        false => {
            "expected chat_template.jinja, chat_template.json or `chat_template` in tokenizer_config.json; put a \
             chat_template.jinja beside config.json, or use a chat model"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_not_told_to_have_another_beside_it() {
        let told = |model: &str| ChatError::NoTemplate { dir: model.into() }.to_string();
        assert!(told("m.gguf").starts_with("m.gguf: no chat template: expected `tokenizer.chat_template` in the file"));
        assert!(told("m").contains("put a chat_template.jinja beside config.json"));
    }
}
