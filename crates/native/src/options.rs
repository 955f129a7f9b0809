//! Threads and batches.

use smpo_model::{DeviceDecoder, PackedDecoder};

/// Weights of at most this size stay in a CPU core's cache: each thread then sweeps over all of them for a batch of its
/// own and waits for no other. Beyond, all threads share each sweep of one batch.
const CACHED_BYTES: usize = 16 << 20;

/// Memory for the key–value caches and states of all sequences together, in bytes.
const CACHE_BYTES: usize = 2 << 30;

/// Tokens of a sequence that a device's cache is made for, where memory and the model's context allow: it is allocated before
/// any length is known.
const DEVICE_TOKENS: usize = 4096;

/// Number of threads, and sequences per batch. Neither changes a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeOptions {
    /// Threads to compute with, at least 1.
    pub threads: usize,
    /// Sequences in flight in each batch, at least 1.
    pub batch: usize,
}

impl Default for NativeOptions {
    /// All cores, 16 sequences a batch.
    fn default() -> Self {
        NativeOptions { threads: std::thread::available_parallelism().map_or(1, usize::from), batch: 16 }
    }
}

/// [`NativeOptions`] applied to one decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Workers, each with a batch of its own.
    pub workers: usize,
    pub threads_per_worker: usize,
    /// Sequences in a batch.
    pub sequences: usize,
    /// Tokens of all sequences of a batch together, at their longest.
    pub tokens: usize,
    /// The most that one sequence may have, alone.
    pub most: usize,
}

impl Layout {
    pub fn new(decoder: &PackedDecoder, options: NativeOptions) -> Self {
        let threads = options.threads.max(1);
        let workers = if decoder.weight_bytes() <= CACHED_BYTES { threads } else { 1 };
        let sequences = options.batch.max(1);
        // States do not grow with a sequence.
        let cache_bytes = (CACHE_BYTES / workers).saturating_sub(sequences * decoder.state_bytes());
        Layout {
            workers,
            threads_per_worker: threads / workers,
            sequences,
            tokens: cache_bytes / decoder.token_bytes().max(1),
            most: usize::MAX,
        }
    }

    /// On a device with `memory` bytes for a cache and a step's intermediate values: one batch for all.
    ///
    /// # Errors
    /// The bytes that one sequence's step takes, where they are more.
    pub fn on_device(decoder: &DeviceDecoder, options: NativeOptions, memory: usize) -> Result<Self, usize> {
        let (wanted, token) = (options.batch.max(1), decoder.token_bytes().max(1));
        let most = |sequences| memory.saturating_sub(decoder.step_bytes(sequences)) / token;
        let longest = decoder.spec().max_positions.unwrap_or(DEVICE_TOKENS).min(DEVICE_TOKENS);
        // Fewer sequences where their logits alone would fill the memory.
        let halves = std::iter::successors(Some(wanted), |sequences| (*sequences > 1).then_some(sequences / 2));
        let sequences = halves.into_iter().find(|sequences| most(*sequences) > 0);
        let sequences = sequences.ok_or_else(|| decoder.step_bytes(1) + token)?;
        let most = most(sequences);
        let tokens = most.min(sequences * longest);
        Ok(Layout { workers: 1, threads_per_worker: options.threads.max(1), sequences, tokens, most })
    }
}
