//! One worker as the dealer sees it.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::{Completion, InferenceError, Request};

/// A request on its way to a generator.
pub(super) enum Job {
    /// One of the list, by its index.
    Sample(usize, Arc<[Request]>),
    /// One of a trial.
    Trial(Arc<Request>),
}

impl Job {
    pub fn request(&self) -> &Request {
        match self {
            Job::Sample(index, requests) => &requests[*index],
            Job::Trial(request) => request,
        }
    }

    pub fn task(self) -> Task {
        match self {
            Job::Sample(index, _) => Task::Sample(index),
            Job::Trial(request) => Task::Trial(request),
        }
    }
}

/// A request that a generator has finished.
pub(super) enum Task {
    Sample(usize),
    Trial(Arc<Request>),
}

/// Its result.
pub(super) struct Finished {
    pub worker: usize,
    pub seat: usize,
    pub task: Task,
    pub result: Result<Completion, InferenceError>,
}

/// Standing of a worker.
pub(super) enum Standing {
    /// Answers the requests of a trial.
    OnTrial(Trial),
    /// Takes requests.
    InService,
    /// Waits until it is asked again.
    Aside(Instant),
    /// Takes none any more.
    Out,
}

/// A trial under way.
pub(super) struct Trial {
    /// Requests that were not dealt yet, last first.
    pub left: Vec<Arc<Request>>,
    pub completions: Vec<(Arc<Request>, Completion)>,
    /// A failure that ends it.
    pub failure: Option<InferenceError>,
    /// The worker was in the run before.
    pub returning: bool,
}

impl Trial {
    pub fn new(requests: Vec<Request>, returning: bool) -> Self {
        let left = requests.into_iter().rev().map(Arc::new).collect();
        Trial { left, completions: Vec::new(), failure: None, returning }
    }

    /// True if no further request of it is to be dealt.
    pub fn is_over(&self) -> bool {
        self.left.is_empty() || self.failure.is_some()
    }
}

/// One worker.
pub(super) struct Member {
    seats: Vec<Sender<Job>>,
    free: Vec<usize>,
    pub standing: Standing,
    /// Requests in flight at most.
    pub at_once: usize,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// It has completed something.
    pub answered: bool,
    /// The next pause.
    pub pause: Duration,
    /// Nothing is expected of it: it failed when it was asked again, and nobody else has had success either.
    pub given_up: bool,
}

impl Member {
    pub fn new(seats: Vec<Sender<Job>>, pause: Duration) -> Self {
        let (free, at_once) = ((0..seats.len()).rev().collect(), seats.len());
        Member {
            seats,
            free,
            standing: Standing::InService,
            at_once,
            failures_in_a_row: 0,
            answered: false,
            pause,
            given_up: false,
        }
    }

    /// Requests in flight.
    pub fn busy(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    pub fn has_room(&self) -> bool {
        !self.free.is_empty() && self.busy() < self.at_once
    }

    pub fn is_in_service(&self) -> bool {
        matches!(self.standing, Standing::InService)
    }

    pub fn is_out(&self) -> bool {
        matches!(self.standing, Standing::Out)
    }

    /// Hands a job to a free generator; false if there is none.
    pub fn give(&mut self, job: Job) -> bool {
        let Some(seat) = self.free.pop() else { return false };
        self.seats[seat].send(job).is_ok()
    }

    pub fn free(&mut self, seat: usize) {
        self.free.push(seat);
    }
}
