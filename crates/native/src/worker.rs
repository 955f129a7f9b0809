//! One worker: a batch of sequences, decoded step after step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use smpo_model::ModelError;
use smpo_sampling::{LogitsError, Recording};

use crate::backend::{Backend, Running};
use crate::job::{Failure, Job};
use crate::options::Layout;
use crate::queue::Queue;

type Reply = Sender<Result<Recording, Failure>>;

/// The thread pool of one worker. A pool of one thread computes on the calling thread; the global pool would add a
/// hand-over to every matrix product.
pub(crate) fn pool(layout: Layout) -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new().num_threads(layout.threads_per_worker).build()
}

/// Works in batches of `sequences` until the queue is closed and empty. A panic drops its batch, whose callers see their
/// reply channel close; the next batch starts afresh.
pub(crate) fn work<B: Backend>(start: impl Fn() -> B, queue: &Queue<Job>, sequences: usize) {
    let batches =
        || Batch { backend: start(), running: Vec::new(), replies: Vec::new() }.complete_all(queue, sequences);
    while catch_unwind(AssertUnwindSafe(&batches)).is_err() {}
}

/// The jobs that run, and side by side with them where their results go.
struct Batch<B: Backend> {
    backend: B,
    running: Vec<Running<B::Sequence>>,
    replies: Vec<Reply>,
}

impl<B: Backend> Batch<B> {
    fn complete_all(mut self, queue: &Queue<Job>, sequences: usize) {
        loop {
            self.admit(queue, sequences);
            if self.running.is_empty() {
                return;
            }
            if let Err(error) = self.step() {
                // The error names no sequence, and the caches may be half written.
                while let (Some(one), Some(reply)) = (self.running.pop(), self.replies.pop()) {
                    self.backend.close(one.sequence);
                    // The caller may be gone.
                    let _ = reply.send(Err(Failure::from(&error)));
                }
            }
        }
    }

    /// Fills the batch; blocks for a first job where it is empty.
    fn admit(&mut self, queue: &Queue<Job>, sequences: usize) {
        while self.running.len() < sequences {
            // A job larger than the cache runs alone.
            let alone = self.running.is_empty();
            let Some(job) = queue.pop(alone, |job| alone || self.backend.fits(job.room())) else { return };
            let room = job.room();
            let Job { prompt, recorder, reply } = job;
            match self.backend.open(room) {
                Ok(sequence) => {
                    let kept = self.backend.turns_at().is_some_and(|length| prompt.len() <= length);
                    let again = if kept { prompt.clone() } else { Vec::new() };
                    self.running.push(Running { sequence, prompt: again, next: prompt, recorder });
                    self.replies.push(reply);
                }
                Err(error) => {
                    // The caller may be gone.
                    let _ = reply.send(Err(Failure::from(&error)));
                }
            }
        }
    }

    /// Draws one token for each sequence; sequences that are finished leave the batch.
    fn step(&mut self) -> Result<(), ModelError> {
        let drawn = self.backend.step(&mut self.running)?;
        let turns_at = self.backend.turns_at();
        for (index, drawn) in drawn.into_iter().enumerate().rev() {
            let one = &mut self.running[index];
            match drawn {
                Ok(token) if !one.recorder.is_finished() => {
                    one.next.clear();
                    let ids = &one.recorder.recording().token_ids;
                    if turns_at.is_some_and(|length| one.prompt.len() + ids.len() == length + 1) {
                        one.next.extend(one.prompt.drain(..).chain(ids.iter().copied()));
                        self.backend.clear(&mut one.sequence);
                    } else {
                        one.next.push(token);
                    }
                }
                drawn => self.finish(index, drawn.err()),
            }
        }
        Ok(())
    }

    /// Takes a job out of the batch and sends its result.
    fn finish(&mut self, index: usize, refused: Option<LogitsError>) {
        let (Running { sequence, recorder, .. }, reply) = (self.running.remove(index), self.replies.remove(index));
        self.backend.close(sequence);
        let result = match refused {
            None => Ok(recorder.into_recording()),
            Some(error) => Err(Failure::Logits(error)),
        };
        // The caller may be gone.
        let _ = reply.send(result);
    }
}
