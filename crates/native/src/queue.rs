//! Requests on their way from generators to workers.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use smpo_inference::{InferenceError, Recorder, Recording};

/// One request, ready to be computed.
pub(crate) struct Job {
    pub prompt: Vec<u32>,
    /// Tokens that may follow.
    pub cap: usize,
    pub recorder: Recorder,
    pub reply: Sender<Result<Recording, Failure>>,
}

/// Why a request has no completion.
pub(crate) enum Failure {
    /// What the recorder refused.
    Recorder(InferenceError),
    /// What the model said.
    Model(String),
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// First come, first served.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    /// Hands a request to the next worker that has room.
    pub fn push(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// No more requests come; workers end when those at hand are done.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The next request that `fits`; with `wait`, once there is one. `None` when there is none, or none any more.
    pub fn pop(&self, wait: bool, fits: impl Fn(&Job) -> bool) -> Option<Job> {
        let mut state = self.lock();
        while wait && state.jobs.is_empty() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.jobs.front().is_some_and(fits) { state.jobs.pop_front() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
