//! Gate policies and verdicts, and the ranking of a leaderboard.
//!
//! [`decide`] takes a [`Policy`] and the evaluation directories of two arms and gives one
//! [`smpo_results::Verdict`]: three-valued, with every number it rests on and its exit code.
//!
//! Two errors hurt, and a policy's `alpha` bounds both:
//!
//! - crying wolf: `fail` although the arms do not differ. A failing metric needs a proven regression, and the
//!   proofs of all primary metrics share one `alpha` (Holm).
//! - sleeping: `pass` although the harm is as large as the margin. All primary metrics must pass, each at
//!   `alpha` (an intersection–union test, which needs no correction: Berger 1982, Technometrics 24:295).
//!
//! What lies between is `inconclusive`, with the number of prompts that would settle it.

mod contrast;
mod decide;
mod error;
mod exit;
mod judge;
mod pairing;
pub mod policy;
pub mod ranking;

mod run;

pub use decide::{DecideOptions, decide};
pub use error::GateError;
pub use exit::{OnInconclusive, exit_code};
pub use policy::Policy;
pub use run::Run;
