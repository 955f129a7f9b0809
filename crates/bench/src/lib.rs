//! Whole training steps of known shapes on made pairs: how fast, in how much memory.
//!
//! * [`shape`]: models by their sizes alone
//! * [`made`]: preference pairs of a given length
//! * [`step`]: optimizer steps, timed
//! * [`parity`]: the same steps on a device and on the processor
//! * [`selftest`]: every kernel and those steps, in one report
//! * [`rate`]: what a device's matrix products reach, to compare with

mod error;
pub mod made;
pub mod parity;
pub mod rate;
pub mod selftest;
pub mod shape;
pub mod step;

pub use error::BenchError;
pub use selftest::SelfTest;
pub use shape::Shape;
pub use step::{Prepared, Spread, StepBench, StepReport};
