//! The training loop: rows in, metrics and a model directory out, resumable at any step.
//!
//! * [`config`]: what a run is asked to do, one TOML file
//! * [`preflight`]: the data check before the first step
//! * [`row`]: what a step is made of, whatever the objective
//! * [`learner`]: one optimizer step; the seam between the model (ℓ forward, w backward) and the losses
//! * [`run`]: the loop, the run directory, stopping and going on
//! * [`checkpoint`], [`record`], [`schedule`]: one idea each
//!
//! The loop emits [`Event`]s and observers show them; nothing here prints.

pub mod checkpoint;
pub mod config;
pub mod error;
pub mod learner;
pub mod preflight;
pub mod record;
pub mod row;
pub mod run;
pub mod schedule;

pub use config::{DataCheck, Init, TrainConfig};
pub use error::TrainError;
pub use learner::{Learner, RowLogps, StepOutcome, StepRow, row_logps};
pub use record::StepRecord;
pub use row::{Row, Rows};
pub use run::{Event, Finish, RunDir, train};
pub use schedule::{LearningRate, Schedule};
