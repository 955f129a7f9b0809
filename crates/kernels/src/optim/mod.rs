//! The optimizer.

mod adamw;
mod moment;

pub use adamw::{AdamW, Moments, MomentsView, Parameter, Part, StepReport};
pub use moment::Moment;
