//! Gate policies and verdicts, and the ranking of a leaderboard.
//!
//! [`decide()`] takes a [`Policy`] and the evaluation directories of two arms and gives one
//! [`smpo_results::Verdict`]: three-valued, with every number it rests on and its exit code.
//!
//! A policy's `alpha` bounds both errors:
//!
//! - a false alarm (type I): `fail` although the arms do not differ. A failing metric needs a proven regression, and the
//!   proofs of all primary metrics share one `alpha` (Holm).
//! - a missed regression (type II): `pass` although the harm is as large as the margin. All primary metrics must pass,
//!   each at `alpha` (an intersection–union test, which needs no correction: Berger 1982, Technometrics 24:295).
//!
//! Anything between is `inconclusive`, with the number of prompts that would settle it.

mod case;
mod contrast;
mod decide;
mod draft;
mod error;
mod exit;
mod finding;
mod flips;
mod headline;
mod notes;
mod pairing;
mod pass_k;
mod planning;
pub mod policy;
mod prompts;
pub mod ranking;
mod require;
mod run;
mod shared;

pub use decide::{DecideOptions, decide};
pub use error::GateError;
pub use exit::{OnInconclusive, exit_code};
pub use policy::Policy;
pub use run::Run;
