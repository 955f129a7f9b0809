//! A thread for what a stranger's template does, with a stack as deep as values can nest, which its caller stops waiting
//! for when it takes too long or too much memory.
//!
//! Instructions are counted (`FUEL`), but one may double a text, and forty of them fill any machine. A thread that is given
//! up cannot be stopped: its template is refused from then on, and what it holds goes with the process.

use std::cell::RefCell;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Stack of the thread; a page that is not touched costs nothing.
const STACK: usize = 1 << 30;
/// The longest wait for a result, which takes microseconds.
const TIME: Duration = Duration::from_secs(30);
/// Interval of looks at the memory while a result is overdue.
const LOOK: Duration = Duration::from_millis(200);
/// Growth of the process until an overdue result is given up.
const GROWTH: u64 = 1 << 30;

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// The thread beside this one, once there is a job for it.
    static BESIDE: RefCell<Option<Sender<Job>>> = const { RefCell::new(None) };
}

/// The reason why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// It took too long.
    Slow,
    /// The process grew.
    Large,
    /// It panicked.
    Panicked,
}

impl GivenUp {
    /// The bound that was passed.
    pub fn bound(self) -> String {
        match self {
            GivenUp::Slow => format!("{} seconds", TIME.as_secs()),
            GivenUp::Large => format!("{} MiB of memory", GROWTH >> 20),
            GivenUp::Panicked => "what its engine can bear".into(),
        }
    }
}

/// The result of `job`, run on the thread beside this one.
pub(crate) fn apart<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, GivenUp> {
    let (done, result) = mpsc::sync_channel(1);
    // The other end is gone only where the job was given up.
    let job: Job = Box::new(move || drop(done.send(job())));
    if let Some(job) = BESIDE.with_borrow_mut(|beside| submit(beside, job)) {
        // No room for a thread.
        job();
    }
    let ended = wait(&result);
    if ended.is_err() {
        BESIDE.set(None);
    }
    ended
}

/// Hands a job to the thread, started where there is none yet; gives it back where none can be started.
fn submit(beside: &mut Option<Sender<Job>>, job: Job) -> Option<Job> {
    if beside.is_none() {
        let (sender, jobs) = mpsc::channel::<Job>();
        let run = move || jobs.into_iter().for_each(|job| job());
        let started = thread::Builder::new().name("chat template".into()).stack_size(STACK).spawn(run);
        *beside = started.is_ok().then_some(sender);
    }
    match beside {
        Some(sender) => sender.send(job).err().map(|mpsc::SendError(job)| job),
        None => Some(job),
    }
}

fn wait<T>(result: &Receiver<T>) -> Result<T, GivenUp> {
    let begun = Instant::now();
    let mut before = None;
    loop {
        match result.recv_timeout(LOOK) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(GivenUp::Panicked),
            Err(RecvTimeoutError::Timeout) if begun.elapsed() > TIME => return Err(GivenUp::Slow),
            Err(RecvTimeoutError::Timeout) => {
                let now = resident();
                if now.saturating_sub(*before.get_or_insert(now)) > GROWTH {
                    return Err(GivenUp::Large);
                }
            }
        }
    }
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
        assert_eq!(apart(|| 7), Ok(7));
        let panics = || -> u8 { panic!("on purpose") };
        assert_eq!(apart(panics), Err(GivenUp::Panicked));
        assert_eq!(apart(|| 8), Ok(8), "a thread that panicked is replaced");
    }
}
