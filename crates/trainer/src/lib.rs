//! The training loop: rows in, metrics and a model directory out, resumable at any step.
//!
//! * [`config`]: the configuration of a run, from a TOML or YAML file or built in code
//! * [`dry_run()`]: a run up to its first step
//! * [`data`]: the data set of a configuration; `preflight`: the checks before the first step
//! * [`learner`]: one optimizer step; the seam between the model (ℓ forward, w backward) and the losses
//! * [`memory`]: estimate of a run's memory; `packing`: the rows that share a forward pass
//! * [`run`]: a run from its configuration to a model, interruptible and resumable; its loop is in `steps`
//! * [`early_stopping`] decides (best checkpoint, patience, the probe's EOS rate), `retention` selects checkpoints,
//!   [`alarm`] warns, the loop carries out
//! * [`checkpoint`], [`record`], [`run_dir`], [`schedule`] and the private modules: one idea each
//!
//! The loop emits [`Event`]s and observers show them; nothing here prints.

mod added_tokens;
pub mod alarm;
pub mod checkpoint;
pub mod config;
pub mod data;
mod dealing;
mod distillation;
mod dry_run;
pub mod early_stopping;
pub mod error;
pub mod event;
mod gradient_sums;
mod held_out;
mod labels;
pub mod learner;
mod learner_options;
mod loss_scale;
pub mod memory;
mod memory_budget;
pub mod memory_plans;
mod mismatched;
mod models;
mod moments;
mod openmetrics;
mod origin;
mod packing;
mod passes;
mod pooling;
mod preflight;
mod probe;
pub mod prompt;
mod ranks;
pub mod record;
mod reference;
mod restart;
mod resume;
mod retention;
pub mod run;
pub mod run_dir;
pub mod schedule;
mod scoring;
pub mod selftest;
mod serving;
mod steps;
pub mod synthetic;
mod tensorboard;
mod tokenizer_dir;
mod zero;

pub use alarm::{Alarm, AlarmKind};
pub use config::{DataCheck, Init, MemoryCheck, ReadConfig, TrainConfig, TrainConfigBuilder};
pub use dry_run::{DryRun, RowCounts, dry_run};
pub use early_stopping::StopReason;
pub use error::TrainError;
pub use event::{Event, Finish};
pub use learner::{Learner, StepOutcome};
pub use learner_options::{LearnerOptions, ReferenceSync};
pub use loss_scale::LossScale;
pub use memory::MemoryPlan;
pub use memory_budget::MemoryBudget;
pub use pooling::Pooling;
pub use preflight::check_vocabulary;
pub use ranks::Ranks;
pub use record::{Figure, StepRecord, Update};
pub use resume::EarlierRun;
pub use run::{train, train_on};
pub use run_dir::RunDir;
pub use schedule::{LearningRate, Schedule};
pub use scoring::{RowLogps, StepRow, row_logps, row_logps_with_entropy};
pub use selftest::SelfTest;
pub use smpo_data::{Row, Rows, TokenizedCompletion};
