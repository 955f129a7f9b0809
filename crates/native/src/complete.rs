//! Completing a list of prompts that are token ids already.

use std::sync::mpsc;
use std::thread;

use smpo_model::{DeviceDecoder, PackedDecoder};
use smpo_sampling::{LogitsError, Recorder, Recording};

use crate::backend::{Backend, OnDevice, OnHost};
use crate::job::{Failure, Job};
use crate::options::{Layout, NativeOptions};
use crate::queue::Queue;
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
    /// The device failed, or has no memory left.
    #[error("sampling: {0}")]
    Device(String),
    /// A device has no memory for one sequence.
    #[error("sampling takes at least {} of the GPU's memory, {} are there for it", mebibytes(*needed), mebibytes(*memory))]
    Memory {
        /// Bytes for one sequence.
        needed: usize,
        /// Bytes that there are.
        memory: usize,
    },
    /// A worker panicked.
    #[error("a worker panicked; its message is above")]
    Worker,
}

/// Bytes as text.
fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
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
    let jobs = Jobs::new(prompts);
    let layout = Layout::new(decoder, options);
    jobs.complete(layout, |layout| OnHost::new(decoder, layout.tokens))
}

/// As [`complete()`], on a device that has `memory` bytes for the cache and a step's intermediate values. The cache is as
/// large as the prompts need, and there are fewer sequences side by side where the memory has no room for all.
///
/// # Errors
/// [`CompleteError`]; [`CompleteError::Memory`] where one sequence does not fit.
pub fn complete_on_device(
    decoder: &DeviceDecoder,
    memory: usize,
    prompts: impl IntoIterator<Item = TokenPrompt>,
    options: NativeOptions,
) -> Result<Vec<Result<Recording, LogitsError>>, CompleteError> {
    let jobs = Jobs::new(prompts);
    let layout = Layout::on_device(decoder, options, memory);
    let mut layout = layout.map_err(|needed| CompleteError::Memory { needed, memory })?;
    layout.tokens = jobs.longest(layout.sequences).min(layout.most);
    jobs.complete(layout, |layout| OnDevice::new(decoder, [layout.tokens, layout.most]))
}

/// Prompts in a queue, and where their results come out.
struct Jobs {
    queue: Queue<Job>,
    rooms: Vec<usize>,
    answers: Vec<mpsc::Receiver<Result<Recording, Failure>>>,
}

impl Jobs {
    fn new(prompts: impl IntoIterator<Item = TokenPrompt>) -> Self {
        let mut jobs = Jobs { queue: Queue::default(), rooms: Vec::new(), answers: Vec::new() };
        for TokenPrompt { ids, recorder } in prompts {
            let (reply, answer) = mpsc::channel();
            let job = Job { prompt: ids, recorder, reply };
            jobs.rooms.push(job.room());
            jobs.queue.push(job);
            jobs.answers.push(answer);
        }
        jobs.queue.close();
        jobs
    }

    /// Tokens of the longest `count` sequences.
    fn longest(&self, count: usize) -> usize {
        let mut rooms = self.rooms.clone();
        rooms.sort_unstable();
        rooms.iter().rev().take(count).sum()
    }

    fn complete<B: Backend>(
        self,
        mut layout: Layout,
        start: impl Fn(Layout) -> B + Sync,
    ) -> Result<Vec<Result<Recording, LogitsError>>, CompleteError> {
        let workers = layout.workers.min(self.answers.len()).max(1);
        // An equal share for each worker, where there are fewer prompts than room.
        layout.sequences = layout.sequences.min(self.answers.len().div_ceil(workers)).max(1);
        let pools = (0..workers).map(|_| pool(layout)).collect::<Result<Vec<_>, _>>();
        let pools = pools.map_err(|error| CompleteError::Thread(error.to_string()))?;
        thread::scope(|scope| {
            for pool in &pools {
                let (queue, start) = (&self.queue, &start);
                scope.spawn(move || pool.install(|| work(|| start(layout), queue, layout.sequences)));
            }
        });
        let record = |answer: mpsc::Receiver<Result<Recording, Failure>>| match answer.recv() {
            Ok(Ok(recording)) => Ok(Ok(recording)),
            Ok(Err(Failure::Logits(error))) => Ok(Err(error)),
            Ok(Err(Failure::Model(message))) => Err(CompleteError::Model(message)),
            Ok(Err(Failure::Device(message))) => Err(CompleteError::Device(message)),
            Err(_) => Err(CompleteError::Worker),
        };
        self.answers.into_iter().map(record).collect()
    }
}
