//! Preference and instruction data: readers, tokenisation, truncation, order.
//!
//! - [`records`], [`read_pairs`], [`read_examples`], [`read_unpaired`]: files as people have them, one record at a
//!   time, with the line in every error.
//! - [`ChatTokenizer`]: a model's tokenizer, chat template and terminators in one, so that a completion is
//!   render(prompt + completion) − render(prompt) and ends in exactly one terminator.
//! - [`Truncation`]: what gives way when a row is too long: the prompt first, the terminator never.
//! - [`check`]: the preflight linter; [`lengths`]: histograms; [`convert`]: canonical JSON lines.
//! - [`TokenCache`]: tokenised rows kept under the hash of everything that shaped them.
//! - [`order`], [`split`], [`mix`]: which rows are seen when: fixed by the seed, and by nothing else.

mod cache;
mod chat_tokenizer;
mod check;
mod convert;
mod encode_error;
mod lengths;
mod lines;
mod mixture;
mod order;
mod read_error;
mod reader;
mod record;
mod shape;
mod tokenize;
mod truncation;
mod turn_split;

pub use cache::{Cached, TokenCache};
pub use chat_tokenizer::{ChatTokenizer, PromptCompletion};
pub use check::{CheckReport, Finding, Rule, Sample, Severity, check};
pub use convert::{ConvertError, Converted, convert};
pub use encode_error::EncodeError;
pub use lengths::{Bin, LengthReport, Lengths, lengths};
pub use mixture::{HoldOut, MixtureError, RowOf, Split, mix, split};
pub use order::{order, order_by_length};
pub use read_error::{Location, Problem, ReadError};
pub use reader::{Records, Row, count_rows, read_examples, read_pairs, read_unpaired, records};
pub use record::{
    Example, PreferencePair, Record, TokenizedExample, TokenizedPair, TokenizedUnpaired, UnpairedExample,
};
pub use tokenize::{tokenize_examples, tokenize_pairs, tokenize_unpaired};
pub use truncation::{PromptKeep, Truncated, Truncation};
