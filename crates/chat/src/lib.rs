//! Chat messages, templates and terminators: rendering a conversation to text as a model directory defines it, and the
//! tokens that end a turn.
//!
//! - [`Message`]: a role and its text, reasoning and tool calls; [`Conversation`]: messages with tools, documents and
//!   template variables.
//! - [`ChatTemplate`]: the Jinja template of a model directory, rendered as `transformers`'
//!   `apply_chat_template` renders it (same block trimming, same `tojson`, same Python text of values), inside
//!   bounds of work and size, since a template is untrusted code.
//! - [`Terminators`]: every token that ends a turn, from every place that names one.
//!
//! No tokenizer is needed here: ids come from the files that list added tokens.

mod bounded;
mod content;
mod environment;
pub mod error;
mod files;
mod json_text;
mod message;
mod python;
mod rewriting;
mod template;
mod terminators;

pub use content::Content;
pub use error::ChatError;
pub use files::{json_kind, special_token};
pub use message::{Conversation, Message, TemplateInputs};
pub use template::ChatTemplate;
pub use terminators::{OrdinaryEnd, Terminator, TerminatorSource, Terminators};
