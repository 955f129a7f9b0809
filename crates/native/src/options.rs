//! Threads and batches.

use smpo_model::PackedDecoder;

/// Weights of at most this size stay in a CPU core's cache: each thread then sweeps over all of them for a batch of its
/// own and waits for no other. Beyond, all threads share each sweep of one batch.
const CACHED_BYTES: usize = 16 << 20;

/// Memory for the key–value caches and states of all sequences together, in bytes.
const CACHE_BYTES: usize = 2 << 30;

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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Workers, each with a batch of its own.
    pub workers: usize,
    pub threads_per_worker: usize,
    /// Sequences in a batch.
    pub sequences: usize,
    /// Tokens of all sequences of a batch together, at their longest.
    pub tokens: usize,
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
        }
    }
}
