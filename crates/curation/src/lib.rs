//! Cleaning of data sets: rows that repeat others, by their text, nearly, or by what they mean; training rows that repeat
//! those of a suite.
//!
//! [`duplicates()`] reads the rows once and finds those to leave out; [`Duplicates::write`] reads them again and writes the
//! others as they are. Of the rows only digests stay in memory. Every row left out is as similar as asked for to the one
//! row that stands for it: similarity is not handed on from duplicate to duplicate.
//!
//! [`ches`] ranks preference pairs by how much they push down the answer that they prefer.

mod buckets;
pub mod ches;
mod duplicates;
mod embeddings;
mod error;
mod index;
mod minhash;
mod near;
mod normal;
mod report;
mod rows;
mod shingles;
mod text;

pub use duplicates::{Duplicates, Keep, Method, Options, Progress, duplicates};
pub use error::CurationError;
pub use minhash::MinHash;
pub use report::{Cluster, Member, Report};
pub use text::{By, RowKind};
