//! Several workers, servers or devices of one model, on one list of requests.
//!
//! Requests are dealt one by one to whoever has room, so a slow worker gets fewer. One that fails is set aside, its
//! requests go to the others, and after a pause it is asked again; before any request is dealt to it a worker can be put on
//! trial ([`Supervisor::trial`]), and so can one that comes back. What a request draws depends on neither.
//!
//! The state is the calling thread's alone; each generator has a thread of its own, which waits for the next request.

mod dealer;
mod member;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::{Completion, Generator, Guarded, InferenceError, Request};

use self::dealer::Dealer;
use self::member::{Finished, Member};

/// Generators that fail together: connections to one server, or sequences on one device.
pub struct Worker {
    /// Name in messages: a URL without credentials, or a device.
    pub name: String,
    /// One thread and one request in flight each.
    pub generators: Vec<Box<dyn Generator>>,
}

/// Bounds on failures and pauses.
#[derive(Debug, Clone, PartialEq)]
pub struct Patience {
    /// Failures in a row after which a worker is set aside.
    pub failures: u32,
    /// Pause before a worker that was set aside is asked again; it doubles with every failure.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Time without any answer after which the run ends.
    pub give_up: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            failures: 3,
            first_pause: Duration::from_secs(5),
            longest_pause: Duration::from_secs(60),
            give_up: Duration::from_secs(30),
        }
    }
}

/// Admission to the run.
#[derive(Debug, Clone)]
pub enum Admission {
    /// At once, with so many requests in flight.
    Free(usize),
    /// After a verdict on the completions of these requests.
    Trial(Vec<Request>),
}

/// Outcome of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// In service, with so many requests in flight.
    Admitted(usize),
    /// Not the model that the run is about, for the reason given: out for good.
    Refused(String),
}

/// Change of a worker's standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It takes no further requests.
    SetAside {
        /// Number of the worker.
        worker: usize,
        /// The reason.
        reason: String,
        /// Time until it is asked again; absent for good.
        pause: Option<Duration>,
        /// It had been set aside before and failed when it was asked again.
        again: bool,
    },
    /// It is back.
    Back {
        /// Number of the worker.
        worker: usize,
    },
}

/// Decisions and records of the caller, all on its own thread.
pub trait Supervisor {
    /// Admission of a worker, at the start or when it is `returning`.
    fn trial(&mut self, worker: usize, returning: bool) -> Admission;

    /// Verdict on a trial. Requests that the worker refused, as too long for example, are left out.
    fn verdict(&mut self, worker: usize, completions: &[(Arc<Request>, Completion)]) -> Verdict;

    /// The result of a request, once for each; `worker` is the last that had it. After a break no request is dealt any
    /// more, and those in flight still arrive.
    fn finished(&mut self, index: usize, worker: usize, result: Result<Completion, InferenceError>) -> ControlFlow<()>;

    /// A worker's standing changed.
    fn news(&mut self, news: News);

    /// Nothing has arrived for a moment.
    fn waiting(&mut self) -> ControlFlow<()>;
}

/// End of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every request has a result.
    Complete,
    /// A callback broke.
    Stopped,
    /// No worker is left; requests without a result remain.
    NoneLeft,
}

/// Completes the requests. A request is tried on every worker that may take it before its result is an error.
///
/// A worker that hangs in a trial does not hold up the end: its thread is left behind.
pub fn deal(
    workers: Vec<Worker>,
    requests: &Arc<[Request]>,
    patience: &Patience,
    supervisor: &mut dyn Supervisor,
) -> Ending {
    let (sender, results) = mpsc::channel();
    let mut members = Vec::new();
    for (number, worker) in workers.into_iter().enumerate() {
        let seats = worker.generators.into_iter().enumerate().map(|(seat, generator)| {
            let (jobs, inbox) = mpsc::channel::<member::Job>();
            let (sender, mut generator) = (sender.clone(), Guarded(generator));
            thread::spawn(move || {
                for job in inbox {
                    let result = generator.generate(job.request());
                    if sender.send(Finished { worker: number, seat, task: job.task(), result }).is_err() {
                        break;
                    }
                }
            });
            jobs
        });
        members.push(Member::new(seats.collect(), patience.first_pause));
    }
    Dealer::new(members, requests, patience, supervisor).run(&results)
}

/// Marks of a request on the workers that failed on it.
#[derive(Debug, Default)]
struct Marks {
    /// Workers that refuse it.
    refused: BTreeSet<usize>,
    /// Workers that failed at it, until they come back.
    failed: BTreeSet<usize>,
    /// Number of failures.
    tries: usize,
    /// The last failure, with its worker.
    last: Option<(usize, InferenceError)>,
}

impl Marks {
    fn has(&self, worker: usize) -> bool {
        self.refused.contains(&worker) || self.failed.contains(&worker)
    }
}
