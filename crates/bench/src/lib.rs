//! Speed and memory of whole training steps and of sampling, on models of known shapes.
//!
//! * [`shape`]: model sizes with random weights
//! * [`step`]: optimizer steps on synthetic pairs, timed
//! * [`decode`]: steps of sampling, timed
//! * [`peak`]: peak FLOP/s of known GPUs
//! * [`rate`]: FLOP/s of this program's matrix products on the CPU
//! * [`bandwidth`]: bytes/s of the device's memory
//! * [`text`]: reports for a terminal, of a bench and of the trainer's self-test

pub mod bandwidth;
pub mod decode;
mod error;
pub mod peak;
pub mod rate;
pub mod shape;
mod spread;
pub mod step;
pub mod text;

pub use decode::{DecodeBench, DecodeReport};
pub use error::BenchError;
pub use shape::Shape;
pub use spread::Spread;
pub use step::{Base, Prepared, StepBench, StepReport};
