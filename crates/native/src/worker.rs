//! One batch, step after step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;

use smpo_inference::{InferenceError, Recorder, Recording};
use smpo_model::{Feed, ModelError, PackedDecoder, Scratch, Sequence};

use crate::queue::{Failure, Job, Queue};

/// What a worker may hold at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Sequences.
    pub sequences: usize,
    /// Tokens of all of them together, at their longest.
    pub tokens: usize,
}

/// A request that is being answered.
struct Running {
    sequence: Sequence,
    /// What the model has not seen yet: the prompt, then the token drawn last.
    next: Vec<u32>,
    room: usize,
    cap: usize,
    recorder: Recorder,
    /// What the recorder refused.
    refused: Option<InferenceError>,
    reply: Sender<Result<Recording, Failure>>,
}

/// Answers requests until the queue is closed and empty. A panic costs its batch: those who asked are told, because
/// nobody is left to answer them, and the next batch starts afresh.
pub(crate) fn work(decoder: &PackedDecoder, queue: &Queue, limits: Limits) {
    while catch_unwind(AssertUnwindSafe(|| answer_all(decoder, queue, limits))).is_err() {}
}

fn answer_all(decoder: &PackedDecoder, queue: &Queue, limits: Limits) {
    let (mut running, mut scratch) = (Vec::new(), Scratch::default());
    loop {
        admit(decoder, queue, limits, &mut running);
        if running.is_empty() {
            return;
        }
        if let Err(error) = step(decoder, &mut running, &mut scratch) {
            // It does not say whose fault it was, and the caches may be half written.
            let message = error.to_string();
            for one in running.drain(..) {
                // The one who asked may be gone.
                let _ = one.reply.send(Err(Failure::Model(message.clone())));
            }
        }
    }
}

/// Fills the batch, and waits for a first request where there is none.
fn admit(decoder: &PackedDecoder, queue: &Queue, limits: Limits, running: &mut Vec<Running>) {
    while running.len() < limits.sequences {
        let free = limits.tokens.saturating_sub(running.iter().map(|one| one.room).sum());
        // Whatever its size, one request runs alone.
        let alone = running.is_empty();
        let fits = |job: &Job| alone || job.prompt.len() + job.cap <= free;
        let Some(Job { prompt, cap, recorder, reply }) = queue.pop(alone, fits) else { return };
        let room = prompt.len() + cap;
        let sequence = decoder.sequence(room);
        running.push(Running { sequence, next: prompt, room, cap, recorder, refused: None, reply });
    }
}

/// One token for each.
fn step(decoder: &PackedDecoder, running: &mut Vec<Running>, scratch: &mut Scratch) -> Result<(), ModelError> {
    let mut feeds: Vec<Feed> =
        running.iter_mut().map(|one| Feed { sequence: &mut one.sequence, tokens: &one.next }).collect();
    let logits = decoder.advance(&mut feeds, scratch)?;
    let mut rows = logits.chunks_exact(decoder.spec().vocab_size);
    let finished = running.extract_if(.., |one| rows.next().is_none_or(|logits| one.draw(logits)));
    finished.for_each(Running::answer);
    Ok(())
}

impl Running {
    /// Draws the next token; whether it was the last.
    fn draw(&mut self, logits: &[f32]) -> bool {
        match self.recorder.step(logits) {
            Ok(step) => {
                self.next.clear();
                self.next.push(step.token);
                step.terminates || self.recorder.recording().token_ids.len() == self.cap
            }
            Err(error) => {
                self.refused = Some(error);
                true
            }
        }
    }

    fn answer(self) {
        let result = match self.refused {
            None => Ok(self.recorder.into_recording()),
            Some(error) => Err(Failure::Recorder(error)),
        };
        // The one who asked may be gone.
        let _ = self.reply.send(result);
    }
}
