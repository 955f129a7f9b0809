//! Preference and instruction data: readers, tokenisation, truncation, order.
//!
//! - [`records`], [`read`]: files as people have them, one record at a time, with the line in every error.
//! - [`Dataset`]: the rows of a run: several files by ratio, rows held out, bad rows refused or dropped, as tokens.
//! - [`TrainingRow`]: a record as token ids, by the model's `smpo_tokenizer::ChatTokenizer`.
//! - [`Truncation`]: what gives way when a row is too long: the prompt first, the terminator never.
//! - [`check`]: the preflight linter; [`lengths`]: histograms; [`convert`]: canonical JSON lines.
//! - [`TokenCache`]: tokenised rows kept under the hash of everything that shaped them.
//! - [`order`], [`split`], [`mix`], [`sample`]: which rows are seen when: fixed by the seed, and by nothing else.

mod cache;
mod check;
mod convert;
mod dataset;
mod lengths;
mod lines;
mod mixture;
mod order;
mod parquet_rows;
mod read_error;
mod reader;
mod record;
mod shape;
mod training_row;
mod truncation;

pub use cache::{Cached, TokenCache};
pub use check::{CheckReport, Finding, Rule, Sample, Severity, check};
pub use convert::{ConvertError, Converted, convert};
pub use dataset::{BadRows, Dataset, DatasetError, OnBadRows, Rows, Tokens, TruncatedRows};
pub use lengths::{Bin, LengthReport, Lengths, lengths};
pub use mixture::{HoldOut, MixtureError, RowOf, Split, mix, sample, split};
pub use order::{order, order_by_length};
pub use read_error::{Location, Problem, ReadError};
pub use reader::{Records, Row, count_rows, read, read_pairs, records};
pub use record::{
    Example, PreferencePair, Record, TokenizedExample, TokenizedPair, TokenizedUnpaired, UnpairedExample,
};
pub use training_row::{TrainingRow, tokenize};
pub use truncation::{PromptKeep, Truncated, Truncation};
