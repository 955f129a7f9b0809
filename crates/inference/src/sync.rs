//! The threads of [`crate::dealt`], under a name that `.ci/models` gives its own.

pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use std::sync::mpsc;
pub(crate) use std::thread;
