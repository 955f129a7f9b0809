//! The training loop: rows in, metrics and a model directory out, resumable at any step.
//!
//! * [`config`]: what a run is asked to do, one TOML or YAML file
//! * [`preflight`]: the data check before the first step
//! * [`row`]: what a step is made of, whatever the objective
//! * [`learner`]: one optimizer step; the seam between the model (ℓ forward, w backward) and the losses
//! * [`memory`]: how much a run takes, before it takes it; `packing`: which rows go through the model together
//! * [`run`]: a run from its configuration to a model, stopping and going on; its loop is in `steps`
//! * [`judge`] decides (best checkpoint, early stop, the probe's rule), [`alarm`] warns, the loop carries out
//! * [`checkpoint`], [`record`], [`run_dir`], [`schedule`] and the private modules: one idea each
//!
//! The loop emits [`Event`]s and observers show them; nothing here prints.

pub mod alarm;
pub mod checkpoint;
pub mod config;
mod emulation;
pub mod error;
mod held_out;
pub mod judge;
pub mod learner;
mod loss_scale;
pub mod memory;
pub mod memory_plans;
mod openmetrics;
mod packing;
mod precision;
pub mod preflight;
mod probe;
pub mod record;
mod reference;
pub mod row;
pub mod run;
pub mod run_dir;
pub mod schedule;
mod scoring;
mod start;
mod steps;
mod tensorboard;
mod tokenizer_dir;

pub use alarm::{Alarm, AlarmKind};
pub use config::{DataCheck, Init, MemoryCheck, ReadConfig, TrainConfig};
pub use emulation::on_device;
pub use error::TrainError;
pub use judge::StopReason;
pub use learner::{Learner, StepOutcome, StepRow};
pub use loss_scale::LossScale;
pub use memory::MemoryPlan;
pub use record::{Figure, StepRecord, Update};
pub use row::{Row, Rows};
pub use run::{Event, Finish, train};
pub use run_dir::RunDir;
pub use schedule::{LearningRate, Schedule};
pub use scoring::{RowLogps, row_logps};
