//! The optimizer.

mod adamw;
mod moment;

pub use adamw::{AdamW, Moments, MomentsView, Parameter, StepReport};
pub use moment::Moment;
