use std::path::PathBuf;

use smpo_chat::ChatError;

/// What can go wrong between a row and its tokens.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The template or a configuration file is at fault.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// tokenizer.json is missing or not one.
    #[error("{}: cannot load the tokenizer: {message}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// The tokenizer library's words.
        message: String,
    },
    /// The tokenizer failed on a text.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    /// The template renders messages without their text.
    #[error(
        "{origin}: the chat template leaves out what plain text messages say; expected one that writes \
         `message.content`, got one for content in parts (images and text): give another `chat_template`"
    )]
    DropsText {
        /// Where the template came from.
        origin: String,
    },
    /// Nothing in the model directory names a token that ends a turn.
    #[error(
        "{}: no terminator: expected `eos_token` in tokenizer_config.json, `eos_token_id` in generation_config.json \
         or config.json, or a chat template that ends the assistant's turn with a special token; without one the \
         model cannot learn to stop", dir.display()
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
        /// Where the texts part.
        at: usize,
        /// Length of the rendered prompt in bytes.
        length: usize,
    },
    /// Roles that cannot be split into a prompt and a completion.
    #[error("{what}: expected {expected}, got {got}")]
    Roles {
        /// Which list of messages.
        what: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What is there.
        got: String,
    },
}
