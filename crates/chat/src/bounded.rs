//! Work within bounds of time and memory: on a worker thread with a stack as deep as a template's values can nest, which its
//! caller stops waiting for.
//!
//! Instructions are counted (`FUEL`), but one may double a text, and forty of them fill any machine. A thread that is given
//! up cannot be stopped: its template is refused from then on, and what it holds goes with the process.

use std::cell::RefCell;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Stack of the worker; a page that is not touched costs nothing.
const STACK: usize = 1 << 30;
/// Interval of looks at a result that is overdue: it takes microseconds.
const LOOK: Duration = Duration::from_millis(200);
/// Looks until it is given up: 30 seconds. Counted, because a process that was stopped meanwhile has not been slow.
const LOOKS: u32 = 150;
/// Looks until memory counts: a machine under load starves a thread for a second, while others may allocate.
const PATIENCE: u32 = 10;
/// Growth of the process until an overdue result is given up.
const GROWTH: u64 = 1 << 30;

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// The worker of this thread, once there is a job for it.
    static WORKER: RefCell<Option<Sender<Job>>> = const { RefCell::new(None) };
}

/// The reason why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// It took too long.
    Slow,
    /// The process grew.
    Large,
    /// It panicked.
    Panicked,
}

impl Exceeded {
    /// The bound that was passed.
    pub fn bound(self) -> String {
        match self {
            Exceeded::Slow => format!("{} seconds", (LOOK * LOOKS).as_secs()),
            Exceeded::Large => format!("{} MiB of memory", GROWTH >> 20),
            Exceeded::Panicked => "what its engine can bear".into(),
        }
    }
}

/// The result of `job`, run on this thread's worker.
pub(crate) fn run_bounded<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, Exceeded> {
    let (done, result) = mpsc::sync_channel(1);
    // The other end is gone only where the job was given up.
    let job: Job = Box::new(move || drop(done.send(job())));
    if let Some(job) = WORKER.with_borrow_mut(|worker| submit(worker, job)) {
        // No room for a thread.
        job();
    }
    let ended = wait(&result, LOOK, resident);
    if ended.is_err() {
        WORKER.set(None);
    }
    ended
}

/// Hands a job to the thread, started where there is none yet; gives it back where none can be started.
fn submit(worker: &mut Option<Sender<Job>>, job: Job) -> Option<Job> {
    if worker.is_none() {
        let (sender, jobs) = mpsc::channel::<Job>();
        let run = move || jobs.into_iter().for_each(|job| job());
        let started = thread::Builder::new().name("chat template".into()).stack_size(STACK).spawn(run);
        *worker = started.is_ok().then_some(sender);
    }
    match worker {
        Some(sender) => sender.send(job).err().map(|mpsc::SendError(job)| job),
        None => Some(job),
    }
}

fn wait<T>(result: &Receiver<T>, look_after: Duration, mut resident: impl FnMut() -> u64) -> Result<T, Exceeded> {
    let mut before = None;
    for look in 1..=LOOKS {
        match result.recv_timeout(look_after) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(Exceeded::Panicked),
            Err(RecvTimeoutError::Timeout) if look >= PATIENCE => {
                let now = resident();
                if now.saturating_sub(*before.get_or_insert(now)) > GROWTH {
                    return Err(Exceeded::Large);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    Err(Exceeded::Slow)
}

/// Resident memory of the process in bytes; 0 where the system does not say.
fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let pages = || std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse::<u64>().ok();
    pages().unwrap_or(0) * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_and_panics_end_no_caller() {
        assert_eq!(run_bounded(|| 7), Ok(7));
        let panics = || -> u8 { panic!("on purpose") };
        assert_eq!(run_bounded(panics), Err(Exceeded::Panicked));
        assert_eq!(run_bounded(|| 8), Ok(8), "a thread that panicked is replaced");
    }

    #[test]
    fn bounds_are_told_in_their_units() {
        let told = [Exceeded::Slow, Exceeded::Large, Exceeded::Panicked].map(Exceeded::bound);
        assert_eq!(told, ["30 seconds", "1024 MiB of memory", "what its engine can bear"]);
    }

    #[test]
    fn a_job_is_given_up_after_thirty_seconds_or_once_the_process_grew_by_a_gibibyte() {
        for (grown, expected, looks) in [(GROWTH, Exceeded::Slow, 141), (GROWTH + 1, Exceeded::Large, 2)] {
            let (_running, result) = mpsc::sync_channel::<u8>(1);
            let mut seen = 0;
            let memory = || {
                seen += 1;
                if seen == 1 { 7 } else { 7 + grown }
            };
            assert_eq!(wait(&result, Duration::from_micros(1), memory), Err(expected));
            assert_eq!(seen, looks, "memory counts from the tenth look on");
        }
    }

    #[test]
    fn the_size_of_a_process_is_counted_in_bytes() {
        assert!((1 << 20..1 << 40).contains(&resident()));
    }
}
