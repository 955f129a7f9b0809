//! Completing a list of prompts that are token ids already.

use std::sync::mpsc;
use std::thread;

use smpo_model::PackedDecoder;
use smpo_sampling::{LogitsError, Recorder, Recording};

use crate::options::{Layout, NativeOptions};
use crate::queue::{Failure, Job, Queue};
use crate::worker::{pool, work};

/// A prompt as token ids.
#[derive(Debug, Clone)]
pub struct TokenPrompt {
    /// Token ids; at least one.
    pub ids: Vec<u32>,
    /// Draws and records the completion: sampler, random stream, terminators, cap.
    pub recorder: Recorder,
}

/// Reason for which [`complete`] has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompleteError {
    /// A thread could not be started.
    #[error("cannot start a thread to sample with: {0}")]
    Thread(String),
    /// The model refused a prompt: it is empty, or holds a token that is not below `V`.
    #[error("the model refused a prompt: {0}")]
    Model(String),
    /// A worker panicked.
    #[error("a worker panicked; its message is above")]
    Worker,
}

/// Completes every prompt, in the batches of [`crate::NativeGenerator`], and returns the records in the order of the
/// prompts. Logits that are no distribution fail their prompt alone.
///
/// # Errors
/// [`CompleteError`].
pub fn complete(
    decoder: &PackedDecoder,
    prompts: impl IntoIterator<Item = TokenPrompt>,
    options: NativeOptions,
) -> Result<Vec<Result<Recording, LogitsError>>, CompleteError> {
    let mut layout = Layout::new(decoder, options);
    let queue = Queue::default();
    let mut replies = Vec::new();
    for TokenPrompt { ids, recorder } in prompts {
        let (reply, answer) = mpsc::channel();
        queue.push(Job { prompt: ids, recorder, reply });
        replies.push(answer);
    }
    queue.close();
    let workers = layout.workers.min(replies.len()).max(1);
    // An equal share for each worker, where there are fewer prompts than room.
    layout.sequences = layout.sequences.min(replies.len().div_ceil(workers)).max(1);
    let pools = (0..workers).map(|_| pool(layout)).collect::<Result<Vec<_>, _>>();
    let pools = pools.map_err(|error| CompleteError::Thread(error.to_string()))?;
    thread::scope(|scope| {
        for pool in &pools {
            let queue = &queue;
            scope.spawn(move || pool.install(|| work(decoder, queue, layout)));
        }
    });
    let record = |answer: mpsc::Receiver<Result<Recording, Failure>>| match answer.recv() {
        Ok(Ok(recording)) => Ok(Ok(recording)),
        Ok(Err(Failure::Logits(error))) => Ok(Err(error)),
        Ok(Err(Failure::Model(message))) => Err(CompleteError::Model(message)),
        Err(_) => Err(CompleteError::Worker),
    };
    replies.into_iter().map(record).collect()
}
