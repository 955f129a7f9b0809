//! The backward pass: recording of operations, and delivery of gradients.
//!
//! An operation computes its result first and records it afterwards with a closure for its backward pass: on the
//! running [`Tape`] if there is one, else as a node of candle's graph ([`record`]). The closure hands the gradients of
//! the operation's arguments to a sink ([`GradSink`], on a device [`DeviceSink`]), which adds them to [`Gradients`] or
//! passes them on.

mod absent;
mod argument;
mod candle;
mod device_sink;
mod gradients;
mod graph;
mod pending;
mod sink;
mod tape;

pub use absent::{absent, drop_values, replace_values};
pub(crate) use device_sink::{DeviceSink, single};
pub use gradients::{Gradients, Watcher};
pub(crate) use graph::{record, record_with_result};
pub(crate) use sink::{FreshGrad, GradSink, ResultGrad};
pub use tape::{OtherGradients, Tape};
pub(crate) use tape::{cheapest_to_save, is_recording, leaf, push_on, push_pair, register_recompute, tracks};
