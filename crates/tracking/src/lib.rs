//! Runs in MLflow, over its REST interface: metrics, configuration, artefacts.
//!
//! The source is the run directory: [`Tracked::send`] sends the lines of `metrics.jsonl` that the server lacks, and the
//! configuration once. `mlflow.json` beside it says which run of which server this is and how far it has got, so that a run
//! that is resumed, or looked at later, stays the same run there. While a run trains, a [`Follower`] does this on a thread of
//! its own: a server that cannot be reached delays nothing, and what it missed is sent with the next attempt.

mod artifacts;
mod client;
mod error;
mod follower;
mod metrics;
mod parameters;
mod settings;
mod state;
mod tracked;

pub use client::Status;
pub use error::TrackingError;
pub use follower::Follower;
pub use settings::Settings;
pub use state::FILE;
pub use tracked::Tracked;
