//! Preference and instruction data: readers, data check, tokenised rows, truncation, order.
//!
//! - [`records`], [`read_pairs`]: files in any common format, one record at a time, with the line in every error.
//! - [`json_rows()`]: the same files row by row as they are, for what passes rows on.
//! - [`Dataset`]: the rows of a run: several files by ratio, rows held out, bad rows refused or dropped, as token ids.
//!   Every file is read once, for the data check and for training; its tokens are kept in a [`TokenCache`].
//! - [`Row`]: a prompt with its completions as token ids, for every objective.
//! - [`Truncation`]: rows cut to length, each completion by its own; [`Unfinished`]: completions that did not end.
//! - [`check()`]: the data check; [`lengths()`]: histograms; [`convert()`]: canonical JSON lines.
//! - [`order()`]: the order of an epoch, fixed by the seed alone.

mod cache;
mod check;
mod classes;
mod columns;
mod completion;
mod convert;
mod data_file;
mod data_source;
mod dataset;
mod dataset_error;
mod degenerate;
mod drawn;
mod hub_files;
mod json_lines;
mod json_rows;
mod lengths;
mod lenient;
mod lines;
mod mixture;
mod order;
mod parquet_rows;
mod preparation;
mod read_error;
mod reader;
mod record;
mod row;
mod shape;
mod sources;
mod token_file;
mod tokenized_record;
mod truncation;
mod unfinished;

pub use cache::TokenCache;
pub use check::{CheckReport, Finding, Rule, Sample, Severity, UnreadKey, check, list_unread};
pub use classes::Classes;
pub use columns::Columns;
pub use completion::TokenizedCompletion;
pub use convert::{ConvertError, Converted, DropBad, LeftOut, convert};
pub use dataset::{BadRows, Dataset, OnBadRows, RowSource, Rows, TokenizedFiles, TruncatedRows, Work};
pub use dataset_error::DatasetError;
pub use degenerate::DegenerateGroups;
pub use drawn::{DrawnRecords, encode_record};
pub use json_lines::JsonLines;
pub use json_rows::{JsonRow, JsonRows, json_rows};
pub use lengths::{Bin, LengthReport, Lengths, lengths};
pub use lenient::{non_finite, with_non_finite};
pub use mixture::{HoldOut, MixtureError};
pub use order::order;
pub use preparation::{Preparation, Reading, TrainOn};
pub use read_error::{Location, Problem, ReadError};
pub use reader::{Located, Records, count_rows, read_pairs, records, records_with_labels};
pub use record::{ClassifiedText, Example, PreferencePair, Record, RecordKind, ScoredGroup, UnpairedExample};
pub use row::{Row, RowKind, ScoredCompletion, encode_group, encode_pair};
pub use shape::Remarks;
pub use sources::{Purpose, source_files};
pub use token_file::FileProgress;
pub use truncation::{Truncated, Truncation, TruncationMode};
pub use unfinished::{Unfinished, UnfinishedCompletions};
