//! The optimizer.

mod adamw;

pub use adamw::{AdamW, Moments, MomentsView, Parameter, StepReport};
