//! The thread pool of an engine.
//!
//! candle runs every normalisation, rotation and softmax through rayon. The engine's thread is none of rayon's, so each of
//! some twenty operations per token would be queued in the global pool: two thirds of the time of a small model, and
//! two engines would compete for one pool. So the engine's thread is made the first worker of a pool of
//! its own; a pool of one runs everything in place.

use std::cell::RefCell;

use rayon::{ThreadPool, ThreadPoolBuilder};

thread_local! {
    /// Dropped with the engine's thread, and its other workers with it.
    static POOL: RefCell<Option<ThreadPool>> = const { RefCell::new(None) };
}

/// Makes the current thread the first of `threads` workers of its own pool, once. Where that fails the thread keeps
/// using the global pool, which is slower and as correct.
pub(super) fn adopt_current(threads: usize) {
    if rayon::current_thread_index().is_some() {
        return;
    }
    let pool = ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build();
    POOL.with(|slot| *slot.borrow_mut() = pool.ok());
}
