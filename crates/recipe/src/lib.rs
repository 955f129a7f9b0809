//! Experiments as data: arms × seeds over the stages sft → pairs → train → merge → eval → gate → board.
//!
//! A [`Recipe`] is a TOML file. [`Plan::of`] turns it into [`Stage`]s, each one command of this program with the files it
//! reads and the stages it follows. [`run()`](fn@run) runs what is missing, several side by side: a stage whose command, input
//! files and earlier stages are those of its record is skipped, by content. A stage that was interrupted is started again
//! with the same command, which resumes; results of a changed stage are set aside, never deleted.

mod error;
mod key;
mod options;
mod plan;
mod recipe;
mod record;
mod run;

pub use error::RecipeError;
pub use plan::{Facts, Kind, Plan, Reader, Stage};
pub use recipe::{Arm, Evaluation, Gate, Recipe, START, Training};
pub use record::State;
pub use run::{Event, Outcome, Runner, run, states};
