//! Speed and memory of whole training steps, on models of known shapes and synthetic pairs.
//!
//! * [`shape`]: model sizes with random weights
//! * [`step`]: optimizer steps, timed
//! * [`peak`]: peak FLOP/s of known GPUs
//! * [`rate`]: FLOP/s of this program's matrix products on the CPU
//! * [`text`]: reports for a terminal, of a bench and of the trainer's self-test

mod error;
pub mod peak;
pub mod rate;
pub mod shape;
pub mod step;
pub mod text;

pub use error::BenchError;
pub use shape::Shape;
pub use step::{Base, Prepared, Spread, StepBench, StepReport};
