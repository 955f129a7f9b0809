//! The training loop: rows in, metrics and a model directory out, resumable at any step.
//!
//! * [`config`]: what a run is asked to do, one TOML or YAML file
//! * [`data`]: the data set of a configuration; the private `preflight` refuses one with errors
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
pub mod data;
mod emulation;
pub mod error;
pub mod event;
mod held_out;
pub mod judge;
pub mod learner;
mod learner_options;
mod loss_scale;
pub mod memory;
mod openmetrics;
mod packing;
mod precision;
mod preflight;
mod probe;
pub mod record;
mod reference;
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
pub use event::{Event, Finish};
pub use judge::StopReason;
pub use learner::{Learner, StepOutcome};
pub use learner_options::LearnerOptions;
pub use loss_scale::LossScale;
pub use memory::MemoryPlan;
pub use record::{Figure, StepRecord, Update};
pub use run::train;
pub use run_dir::RunDir;
pub use schedule::{LearningRate, Schedule};
pub use scoring::{RowLogps, StepRow, row_logps};
pub use smpo_data::{Row, Rows, TokenizedCompletion};
