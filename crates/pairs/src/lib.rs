//! Preference pairs and groups from a model's own completions: rejection sampling.
//!
//! ```text
//! basket ──► K samples of each prompt ──► scores ──► selection ──► rows
//! [Basket]   smpo_eval::evaluate          [Score]    [Selection]   [Format]
//! ```
//!
//! [`smpo_eval::evaluate()`](fn@smpo_eval::evaluate) takes the samples of a [`Basket`], resumably; [`score()`](fn@score) gives
//! each a number by rules, reward models and a judge; [`Selection::select`] makes pairs or groups of a prompt's samples, and [`write_rows`]
//! writes them. [`responses`] writes the first sample of each prompt as an answered basket instead.
//!
//! A completion that was cut has no end to learn: its row says so (`finished`), as training data expects it.

mod basket;
mod conversations;
mod error;
mod journal;
pub mod judge;
mod report;
pub mod responses;
mod rewards;
mod rows;
mod rule;
mod score;
mod select;
mod spread;

pub use basket::{Basket, Entry};
pub use conversations::{Answered, follow_up_suite};
pub use error::PairsError;
pub use judge::Judge;
pub use report::{Report, Side};
pub use rewards::rewards;
pub use rows::{Format, Rows, write_rows};
pub use rule::Rule;
pub use score::{Given, Score, Scorer, score};
pub use select::{Candidate, Dropped, Policy, Selected, Selection};
pub use spread::{PERCENTILES, Spread};
