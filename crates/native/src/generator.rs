//! Generators that share a decoder.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rayon::ThreadPoolBuilder;
use smpo_inference::{Completion, EncodedPrompt, EngineInfo, Generator, InferenceError, Recorder, Request};
use smpo_model::PackedDecoder;
use smpo_tokenizer::ChatTokenizer;

use crate::queue::{Failure, Job, Queue};
use crate::worker::{Limits, work};

const ENGINE: &str = "native";

/// Weights up to here stay in a processor's cache: each thread then sweeps over all of them for a batch of its own,
/// and waits for nobody. Beyond, all threads share each sweep of one batch.
const CACHED_BYTES: usize = 16 << 20;

/// Memory for keys and values of all sequences together, in bytes.
const CACHE_BYTES: usize = 2 << 30;

/// How many threads compute, and on how much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeOptions {
    /// Threads to compute with, at least 1.
    pub threads: usize,
    /// Sequences in flight for each batch, at least 1. It changes the speed and nothing else.
    pub batch: usize,
}

impl Default for NativeOptions {
    /// All cores, 16 sequences a batch.
    fn default() -> Self {
        NativeOptions { threads: std::thread::available_parallelism().map_or(1, usize::from), batch: 16 }
    }
}

/// One request at a time through a decoder that all clones share.
///
/// Not for use from inside an asynchronous runtime: [`Generator::generate`] blocks.
#[derive(Clone)]
pub struct NativeGenerator {
    engine: Arc<Engine>,
}

struct Engine {
    tokenizer: Arc<ChatTokenizer>,
    position_limit: usize,
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
}

impl NativeGenerator {
    /// Starts the workers; as many generators as requests may be in flight. They end with the last generator.
    ///
    /// # Errors
    /// [`InferenceError::Engine`] when a thread cannot be started.
    pub fn start(
        decoder: PackedDecoder,
        tokenizer: impl Into<Arc<ChatTokenizer>>,
        options: NativeOptions,
    ) -> Result<Vec<Self>, InferenceError> {
        let threads = options.threads.max(1);
        let batches = if decoder.weight_bytes() <= CACHED_BYTES { threads } else { 1 };
        let spec = decoder.spec();
        let token_bytes = 2 * spec.layers.len() * spec.kv_width() * size_of::<f32>();
        let limits = Limits { sequences: options.batch.max(1), tokens: CACHE_BYTES / batches / token_bytes.max(1) };
        let position_limit = spec.max_positions.unwrap_or(usize::MAX);
        let (decoder, queue) = (Arc::new(decoder), Arc::new(Queue::default()));
        let mut engine = Engine { tokenizer: tokenizer.into(), position_limit, queue, workers: Vec::new() };
        for index in 0..batches {
            let (decoder, queue) = (decoder.clone(), engine.queue.clone());
            let failed = |error: &dyn std::fmt::Display| InferenceError::Engine {
                prompt_id: String::new(),
                sample: 0,
                engine: ENGINE.into(),
                message: format!("worker {index} could not be started: {error}"),
            };
            // A pool of one computes where it is called; the global one would be waited for at every product.
            let pool = ThreadPoolBuilder::new().num_threads(threads / batches).build().map_err(|e| failed(&e))?;
            let worker = std::thread::Builder::new()
                .name(format!("native-{index}"))
                .spawn(move || pool.install(|| work(&decoder, &queue, limits)))
                .map_err(|error| failed(&error))?;
            engine.workers.push(worker);
        }
        Ok(vec![NativeGenerator { engine: Arc::new(engine) }; batches * limits.sequences])
    }

    /// Tokenizer, chat template and terminators of the model.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.engine.tokenizer
    }
}

impl Generator for NativeGenerator {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        request.validate()?;
        let Engine { tokenizer, position_limit, queue, .. } = &*self.engine;
        let prompt = EncodedPrompt::new(tokenizer, request, *position_limit)?;
        let recorder = Recorder::new(request, tokenizer.terminator_ids());
        let (reply, answer) = mpsc::channel();
        queue.push(Job { prompt: prompt.ids.clone(), cap: prompt.cap, recorder, reply });
        let failed = |message: String| InferenceError::Engine {
            prompt_id: request.prompt_id.clone(),
            sample: request.sample,
            engine: ENGINE.into(),
            message,
        };
        match answer.recv() {
            Ok(Ok(recording)) => prompt.completion(tokenizer, request, recording),
            Ok(Err(Failure::Recorder(error))) => Err(error),
            Ok(Err(Failure::Model(message))) => Err(failed(message)),
            Err(_) => Err(failed("its worker went away without an answer".into())),
        }
    }

    fn engine(&self) -> EngineInfo {
        EngineInfo {
            name: ENGINE.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            dtype: Some("f32".into()),
            device: "cpu".into(),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.queue.close();
        for worker in self.workers.drain(..) {
            // One that panicked has taken its requests with it, and they have been told.
            let _ = worker.join();
        }
    }
}
