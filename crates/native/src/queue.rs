//! Prompts on their way from callers to workers.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use smpo_model::ModelError;
use smpo_sampling::{LogitsError, Recorder, Recording};

/// One prompt to be completed.
pub(crate) struct Job {
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    pub recorder: Recorder,
    pub reply: Sender<Result<Recording, Failure>>,
}

impl Job {
    /// Tokens of prompt and completion at their longest: the room it needs in the key–value cache.
    pub fn room(&self) -> usize {
        self.prompt.len() + self.recorder.cap()
    }
}

/// Reason for which a prompt has no completion.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The logits are no distribution.
    #[error(transparent)]
    Logits(#[from] LogitsError),
    /// Message of the model.
    #[error("{0}")]
    Model(String),
    /// The device's.
    #[error("{0}")]
    Device(String),
}

impl From<&ModelError> for Failure {
    fn from(error: &ModelError) -> Self {
        let of = if error.is_of_the_device() { Self::Device } else { Self::Model };
        of(error.to_string())
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// A queue that is first in, first out.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    /// Adds a job for the next worker that has room.
    pub fn push(&self, job: Job) {
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
