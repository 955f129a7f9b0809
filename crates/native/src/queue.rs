//! Jobs on their way from callers to workers. `.ci/models` compiles this file too, with locks whose order it chooses.

use std::collections::VecDeque;

use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct State<J> {
    jobs: VecDeque<J>,
    closed: bool,
}

/// A queue that is first in, first out.
pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        let state = State { jobs: VecDeque::new(), closed: false };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<J> Queue<J> {
    /// Adds a job for the next worker that has room.
    pub fn push(&self, job: J) {
        self.lock().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// Ends the workers once the jobs at hand are done.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The next job that `fits`; with `wait`, blocks until there is a job. `None` when none fits, or the queue is closed
    /// and empty.
    pub fn pop(&self, wait: bool, fits: impl Fn(&J) -> bool) -> Option<J> {
        let mut state = self.lock();
        while wait && state.jobs.is_empty() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.jobs.front().is_some_and(fits) { state.jobs.pop_front() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
