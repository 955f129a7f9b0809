//! One worker: a batch of sequences, decoded step after step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use smpo_model::{Feed, ModelError, PackedDecoder, Scratch, Sequence};
use smpo_sampling::{LogitsError, Recorder, Recording};

use crate::options::Layout;
use crate::queue::{Failure, Job, Queue};

/// A job in the batch.
struct Running {
    sequence: Sequence,
    /// Tokens that the model has not seen yet: the prompt, then the token drawn last.
    next: Vec<u32>,
    room: usize,
    recorder: Recorder,
    /// The recorder's error, where it refused logits.
    refused: Option<LogitsError>,
    reply: Sender<Result<Recording, Failure>>,
}

/// The thread pool of one worker. A pool of one thread computes on the calling thread; the global pool would add a
/// hand-over to every matrix product.
pub(crate) fn pool(layout: Layout) -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new().num_threads(layout.threads_per_worker).build()
}

/// Works until the queue is closed and empty. A panic drops its batch, whose callers see their reply channel close; the
/// next batch starts afresh.
pub(crate) fn work(decoder: &PackedDecoder, queue: &Queue, layout: Layout) {
    while catch_unwind(AssertUnwindSafe(|| complete_all(decoder, queue, layout))).is_err() {}
}

fn complete_all(decoder: &PackedDecoder, queue: &Queue, layout: Layout) {
    let (mut running, mut scratch) = (Vec::new(), Scratch::default());
    loop {
        admit(decoder, queue, layout, &mut running);
        if running.is_empty() {
            return;
        }
        if let Err(error) = step(decoder, &mut running, &mut scratch) {
            // The error names no sequence, and the caches may be half written.
            let message = error.to_string();
            for one in running.drain(..) {
                // The caller may be gone.
                let _ = one.reply.send(Err(Failure::Model(message.clone())));
            }
        }
    }
}

/// Fills the batch; blocks for a first job where it is empty.
fn admit(decoder: &PackedDecoder, queue: &Queue, layout: Layout, running: &mut Vec<Running>) {
    while running.len() < layout.sequences {
        let free = layout.tokens.saturating_sub(running.iter().map(|one| one.room).sum());
        // A job larger than the cache runs alone.
        let alone = running.is_empty();
        let Some(job) = queue.pop(alone, |job| alone || job.room() <= free) else { return };
        let room = job.room();
        let Job { prompt, recorder, reply } = job;
        let sequence = decoder.sequence(room);
        running.push(Running { sequence, next: prompt, room, recorder, refused: None, reply });
    }
}

/// Draws one token for each sequence; sequences that are finished leave the batch.
fn step(decoder: &PackedDecoder, running: &mut Vec<Running>, scratch: &mut Scratch) -> Result<(), ModelError> {
    let mut feeds: Vec<Feed> =
        running.iter_mut().map(|one| Feed { sequence: &mut one.sequence, tokens: &one.next }).collect();
    let logits = decoder.advance(&mut feeds, scratch)?;
    let mut rows = logits.chunks_exact(decoder.spec().vocab_size);
    let finished = running.extract_if(.., |one| rows.next().is_none_or(|logits| one.draw(logits)));
    finished.for_each(Running::reply);
    Ok(())
}

impl Running {
    /// Draws the next token from `logits` (V); true if the completion is finished.
    fn draw(&mut self, logits: &[f32]) -> bool {
        match self.recorder.step(logits) {
            Ok(step) => {
                self.next.clear();
                self.next.push(step.token);
                self.recorder.is_finished()
            }
            Err(error) => {
                self.refused = Some(error);
                true
            }
        }
    }

    fn reply(self) {
        let result = match self.refused {
            None => Ok(self.recorder.into_recording()),
            Some(error) => Err(Failure::Logits(error)),
        };
        // The caller may be gone.
        let _ = self.reply.send(result);
    }
}
