//! Preference losses as pure functions of token log-probs.
//!
//! The gradient of every objective here is a weighted negative log-likelihood: with `w_t = ∂L/∂ℓ_t`,
//! `∂L/∂logits_t = w_t · (onehot(y_t) − softmax(logits_t))`. So an objective needs no tensors. It takes the log-probs
//! that the model gave the completion tokens of one optimizer step, and returns a value, the weights `w` and statistics.
//! The model runs forward, passes ℓ on, and runs backward from `Σ w_t·ℓ_t` with `w` constant.
//!
//! ```
//! use smpo_losses::{Batch, Completion, LossConfig, LossState, Objective, Pair};
//!
//! let config: LossConfig = serde_json::from_str(r#"{"kind": "smpo", "beta": 1.2, "min_log_prob": -2.3}"#)?;
//! let objective = Objective::new(config)?;
//! let terminator = [false, false, true];
//! let pairs = [Pair::new(
//!     Completion::new(&[-0.4, -0.9, -0.1], &terminator),
//!     Completion::new(&[-0.7, -9.0, -0.2], &terminator),
//! )];
//! let mut state = LossState::default();
//! let evaluation = objective.evaluate(&Batch::new(&pairs), &mut state)?;
//! assert!(evaluation.value.is_finite());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Units and names: log-probs in nats; ℓ_t is a token's log-prob; s is the mean of ℓ over a completion and logp its
//! sum; chosen is y+, rejected y−. Everything is float64 inside. A completion holds completion tokens only, terminator
//! included: prompt and padding never reach this crate.
//!
//! Layout: one loss is one file in [`loss`], with one line in the table there; [`function`] is the interface that it
//! implements, [`catalog`] the table's columns. The four transforms of modified SMPO are one file each in [`transform`];
//! [`objective`] applies both to a batch.

mod accumulator;
pub mod advantage;
pub mod batch;
pub mod catalog;
pub mod config;
pub mod divergence;
pub mod entropy;
pub mod error;
pub mod evaluation;
pub mod explain;
pub mod factors;
pub mod function;
mod groups;
pub mod import;
pub mod label_counts;
pub mod likelihood;
pub mod logistic;
pub mod loss;
pub mod objective;
pub mod pooled;
pub mod reduction;
mod scored;
pub mod state;
mod sum;
pub mod transform;
mod vector;

pub use advantage::{Advantage, is_degenerate};
pub use batch::{Batch, Completion, Member, Pair, Side, Totals};
pub use config::LossConfig;
pub use entropy::TokenEntropy;
pub use error::{BatchError, ConfigError};
pub use evaluation::{Evaluation, Mean, MemberEvaluation, PairEvaluation, Statistics};
pub use function::{Direction, Pairing};
pub use label_counts::LabelCounts;
pub use loss::{LOSSES, Loss};
pub use objective::Objective;
pub use pooled::PooledRow;
pub use state::LossState;
pub use transform::{Bounds, EosTerm, Transforms, WinsorScope};
