//! Chat messages, templates and terminators: what a model directory says about how a conversation becomes text,
//! and how a turn ends.
//!
//! - [`Message`]: a role and its text.
//! - [`ChatTemplate`]: the Jinja template of a model directory, rendered as `transformers`'
//!   `apply_chat_template` renders it (same block trimming, same `tojson`, same Python text of values), inside
//!   bounds of work and size, since a template is somebody else's program.
//! - [`Terminators`]: every token that ends a turn, from every place that names one.
//!
//! No tokenizer is needed here: ids come from the files that list added tokens.

pub mod error;
mod files;
mod generation_tags;
mod json_text;
mod message;
mod python_text;
mod template;
mod terminators;

pub use error::ChatError;
pub use files::{json_kind, special_token};
pub use message::Message;
pub use template::{ChatTemplate, Conversation};
pub use terminators::{Terminator, TerminatorSource, Terminators};
