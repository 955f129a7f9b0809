//! Leaderboards and verdicts rendered for people: one renderer per output format, each a pure function from the
//! schema of [`smpo_results`] to text. The same input gives the same bytes: no clock, no random name, no map order.
//!
//! | document | formats |
//! |---|---|
//! | [`smpo_results::Leaderboard`] | [`leaderboard::html`], [`leaderboard::markdown`], [`leaderboard::json`], [`leaderboard::text`] |
//! | [`smpo_results::Verdict`] | [`verdict::text`], [`verdict::markdown`], [`verdict::junit`] |
//! | [`smpo_results::MetricsFile`] | text: [`estimates`] |
//! | [`curves::Run`]: the metrics of training runs | [`curves::html`], [`curves::csv`] |
//! | [`smpo_data::CheckReport`], [`smpo_data::LengthReport`] | text: [`data`] |
//! | [`explanation::Explanation`]: a loss on stored log-probs | text |
//!
//! Completions, prompts, model names and every other string of the input are hostile text. [`inert`] is the one place
//! that escapes them for each format.

pub mod curves;
pub mod data;
pub mod error;
pub mod estimates;
pub mod explanation;
pub mod figure;
pub mod inert;
pub mod leaderboard;
mod plain;
pub mod verdict;
pub mod wording;

pub use error::Error;
pub use plain::plain_table;
