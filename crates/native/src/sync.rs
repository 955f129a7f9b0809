//! The locks of [`crate::queue`], under a name that `.ci/models` gives its own.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
