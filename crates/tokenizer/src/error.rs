//! Errors of loading a tokenizer, and between a conversation and its tokens.

use std::path::PathBuf;

use smpo_chat::ChatError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The chat template or a configuration file of the model directory cannot be used.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A GGUF file is damaged, or describes no tokenizer that is read.
    #[error(transparent)]
    Gguf(#[from] smpo_gguf::GgufError),
    /// A file that is there cannot be read.
    #[error(transparent)]
    File(#[from] smpo_files::FileError),
    /// `tokenizer.json` is missing or malformed.
    #[error(
        "{}: cannot load the tokenizer: {message}; expected a tokenizer.json that tokenizers 0.22 reads: save the \
         tokenizer again with that release or an earlier one", path.display()
    )]
    Load {
        /// The file.
        path: PathBuf,
        /// Message of the `tokenizers` crate.
        message: String,
    },
    /// `tokenizer.json` is absent, or another kind of file.
    #[error("{}: no tokenizer: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// File that is there, and the way out.
        problem: String,
    },
    /// The tokenizer failed on a text or on ids.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    /// The template renders messages without their text.
    #[error(
        "{origin}: the chat template leaves out what plain text messages say; expected one that writes \
         `message.content`, got one for content in parts (images and text): give another `chat_template`"
    )]
    DropsText {
        /// File of the template.
        origin: String,
    },
    /// Nothing in the model directory names a token that ends a turn.
    #[error(
        "{}: no terminator: expected `eos_token` in tokenizer_config.json, `eos_token_id` in generation_config.json \
         or config.json, or a chat template that ends the assistant's turn with a special token; without one no \
         completion can end", dir.display()
    )]
    NoTerminator {
        /// The model directory.
        dir: PathBuf,
    },
    /// The prompt renders differently once a completion follows.
    #[error(
        "the chat template changes the prompt when a completion follows it: the texts part at byte {at} of {length}, \
         before the last prompt message ends; expected render(prompt + completion) to begin with render(prompt)"
    )]
    PromptChanges {
        /// Byte at which the texts part.
        at: usize,
        /// Length of the rendered prompt in bytes.
        length: usize,
    },
    /// A turn inside a conversation cannot be told from what is before it.
    #[error(
        "the chat template renders what comes before message {message} otherwise once that answer follows (the texts part \
         at byte {at}), so its turns cannot be told apart; expected render(messages) to begin with render(messages before \
         it): train on the last answer alone, or give a `chat_template` that keeps earlier turns as they were"
    )]
    TurnChanges {
        /// Number of the assistant's message, from 1.
        message: usize,
        /// Byte at which the texts part.
        at: usize,
    },
    /// A turn inside a conversation has no terminator.
    #[error(
        "the chat template writes no terminator after message {message}, an answer that another turn follows; expected \
         every answer that is learned to end in one: train on the last answer alone, or give another `chat_template`"
    )]
    OpenTurn {
        /// Number of the assistant's message, from 1.
        message: usize,
    },
    /// Roles that cannot be split into a prompt and a completion.
    #[error("{list}: expected {expected}, got {got}")]
    Roles {
        /// List of messages: `prompt` or `completion`.
        list: &'static str,
        /// Roles that are allowed.
        expected: &'static str,
        /// Role that is there.
        got: String,
    },
}
