//! A thread that sends what a run writes while it trains.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Status;
use crate::error::TrackingError;
use crate::settings::Settings;
use crate::tracked::Tracked;

/// Least time between two calls, and after a failed one.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Follows a run; what it cannot send stays in the run directory.
pub struct Follower {
    status: Sender<Status>,
    notes: Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Follows the run of `dir`, which goes on with step `next`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(dir: &Path, settings: Settings, name: &str, next: u64) -> std::io::Result<Self> {
        let (status, orders) = mpsc::channel();
        let (say, notes) = mpsc::channel();
        let work =
            Work { dir: dir.to_owned(), settings, name: name.to_owned(), next, say, tracked: None, failing: false };
        let thread = std::thread::Builder::new().name("mlflow".into()).spawn(move || work.follow(&orders))?;
        Ok(Follower { status, notes, thread: Some(thread) })
    }

    /// Remarks since the last call: the run's page, a server that cannot be reached.
    pub fn notes(&self) -> Vec<String> {
        self.notes.try_iter().collect()
    }

    /// Sends the rest and ends the run on the server; gives the last remarks. Takes some seconds at most where the server
    /// does not answer.
    pub fn finish(mut self, status: Status) -> Vec<String> {
        self.end(status);
        self.notes()
    }

    fn end(&mut self, status: Status) {
        let _ = self.status.send(status);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A run that ends without [`Follower::finish`] has failed.
impl Drop for Follower {
    fn drop(&mut self) {
        self.end(Status::Failed);
    }
}

/// The thread's own.
struct Work {
    dir: PathBuf,
    settings: Settings,
    name: String,
    next: u64,
    say: Sender<String>,
    tracked: Option<Tracked>,
    /// The last attempt failed, which was said.
    failing: bool,
}

impl Work {
    fn follow(mut self, orders: &Receiver<Status>) {
        let mut again = Instant::now();
        loop {
            match orders.recv_timeout(again.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(status) => return self.end(status),
                Err(RecvTimeoutError::Disconnected) => return self.end(Status::Failed),
            }
            let sent = self.send();
            again = Instant::now() + if sent { PAUSE } else { PAUSE_AFTER_FAILURE };
        }
    }

    /// Sends what there is; false if that failed.
    fn send(&mut self) -> bool {
        let outcome = self.attempt();
        if let Err(error) = &outcome
            && !self.failing
        {
            let dir = self.dir.display();
            self.note(format!("{error}; the run goes on, and `smpo track {dir}` sends what is missing"));
        }
        self.failing = outcome.is_err();
        outcome.is_ok()
    }

    fn attempt(&mut self) -> Result<(), TrackingError> {
        let tracked = match &mut self.tracked {
            Some(tracked) => tracked,
            None => {
                let mut tracked = Tracked::open(&self.dir, &self.settings, &self.name)?;
                tracked.go_on(self.next)?;
                tracked.set_status(Status::Running)?;
                let _ = self.say.send(format!("MLflow: {}", tracked.page()));
                self.tracked.insert(tracked)
            }
        };
        tracked.send().map(drop)
    }

    fn end(&mut self, status: Status) {
        if !self.send() {
            return;
        }
        let Some(tracked) = &self.tracked else { return };
        let config = self.dir.join("config.toml");
        let uploaded = if config.is_file() { tracked.upload(&config).map(drop) } else { Ok(()) };
        for outcome in [uploaded, tracked.set_status(status)] {
            if let Err(error) = outcome {
                self.note(error.to_string());
            }
        }
    }

    fn note(&self, text: String) {
        // Nobody listens once the run has ended.
        let _ = self.say.send(text);
    }
}
