//! A model's tokenizer, chat template and terminators as one type, for training and for inference alike.
//!
//! [`ChatTokenizer`] renders conversations with the model's own template and encodes them: a prompt with the header
//! that opens the assistant's turn ([`ChatTokenizer::encode_prompt`]), and completions as
//! render(prompt + completion) − render(prompt) that end in exactly one terminator, with the assistant's [`Turn`]s among
//! their tokens ([`ChatTokenizer::encode_completions`]). It decodes completions ([`ChatTokenizer::decode_completion`]) and finds the
//! ids of a completion of which a server shows only the text of each token ([`ChatTokenizer::ids_of_pieces`]).
//!
//! Byte-level tokenizers (GPT-2, Llama 3, Qwen, DeepSeek…) are encoded by automata that give the ids of the
//! `tokenizers` crate several times faster; every other tokenizer, and every text they do not cover, goes through that
//! crate. `tests/independent.rs` compares all of it with `tokenizers` and `minijinja` used directly.

mod byte_level;
mod chat_tokenizer;
mod decode;
mod encode;
mod encoded;
mod error;
mod home;
mod last_words;
#[cfg(test)]
mod properties;
mod spans;
mod special_tokens;
mod turn;
mod turn_split;

pub use chat_tokenizer::ChatTokenizer;
pub use encode::{PromptCompletion, PromptCompletions, Sequence};
pub use error::TokenizerError;
pub use turn::Turn;
