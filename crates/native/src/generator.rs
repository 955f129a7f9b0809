//! Generators that share one decoder.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use smpo_inference::{Completion, EncodedPrompt, EngineInfo, Generator, InferenceError, Request};
use smpo_model::{DecoderSpec, DeviceDecoder, PackedDecoder};
use smpo_tokenizer::ChatTokenizer;

use crate::backend::{OnDevice, OnHost};
use crate::complete::CompleteError;
use crate::job::{Failure, Job};
use crate::options::{Layout, NativeOptions};
use crate::queue::Queue;
use crate::worker::{pool, work};

const ENGINE: &str = "native";

/// One request at a time through a decoder that all clones share.
///
/// Not for use from inside an asynchronous runtime: [`Generator::generate`] blocks.
#[derive(Clone)]
pub struct NativeGenerator {
    engine: Arc<Engine>,
}

struct Engine {
    info: EngineInfo,
    tokenizer: Arc<ChatTokenizer>,
    position_limit: usize,
    queue: Arc<Queue<Job>>,
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
        let (layout, decoder) = (Layout::new(&decoder, options), Arc::new(decoder));
        let engine = Engine::new(decoder.spec(), tokenizer.into(), "f32", "cpu".to_owned());
        engine.start(layout, || {
            let decoder = decoder.clone();
            move |queue: &Queue<Job>| work(|| OnHost::new(&decoder, layout.tokens), queue, layout.sequences)
        })
    }

    /// As [`NativeGenerator::start`], on a device of this name that has `memory` bytes for the cache and a step's intermediate
    /// values: there are fewer sequences side by side where it has no room for all, and a request that does not fit alone
    /// fails.
    ///
    /// # Errors
    /// [`InferenceError::Engine`] when a thread cannot be started, or the memory has no room for one sequence.
    pub fn start_on_device(
        decoder: DeviceDecoder,
        tokenizer: impl Into<Arc<ChatTokenizer>>,
        options: NativeOptions,
        (device, memory): (String, usize),
    ) -> Result<Vec<Self>, InferenceError> {
        let layout = Layout::on_device(&decoder, options, memory)
            .map_err(|needed| failed(CompleteError::Memory { needed, memory }.to_string()))?;
        let decoder = Arc::new(decoder);
        let engine = Engine::new(decoder.spec(), tokenizer.into(), decoder.dtype().name(), device);
        engine.start(layout, || {
            let decoder = decoder.clone();
            let room = [layout.tokens, layout.most];
            move |queue: &Queue<Job>| work(|| OnDevice::new(&decoder, room), queue, layout.sequences)
        })
    }

    /// Tokenizer, chat template and terminators of the model.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.engine.tokenizer
    }
}

impl Engine {
    fn new(spec: &DecoderSpec, tokenizer: Arc<ChatTokenizer>, dtype: &str, device: String) -> Self {
        let info = EngineInfo {
            name: ENGINE.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            dtype: Some(dtype.into()),
            device,
        };
        let position_limit = spec.max_positions.unwrap_or(usize::MAX);
        Engine { info, tokenizer, position_limit, queue: Arc::default(), workers: Vec::new() }
    }

    /// Starts a thread for each worker of the layout.
    fn start<W: FnOnce(&Queue<Job>) + Send + 'static>(
        mut self,
        layout: Layout,
        worker: impl Fn() -> W,
    ) -> Result<Vec<NativeGenerator>, InferenceError> {
        for index in 0..layout.workers {
            let (worker, queue) = (worker(), self.queue.clone());
            let refused =
                |error: &dyn std::fmt::Display| failed(format!("worker {index} could not be started: {error}"));
            let pool = pool(layout).map_err(|error| refused(&error))?;
            let thread = std::thread::Builder::new()
                .name(format!("native-{index}"))
                .spawn(move || pool.install(|| worker(&queue)))
                .map_err(|error| refused(&error))?;
            self.workers.push(thread);
        }
        Ok(vec![NativeGenerator { engine: Arc::new(self) }; layout.workers * layout.sequences])
    }
}

/// An error before any request.
fn failed(message: String) -> InferenceError {
    InferenceError::Engine { prompt_id: String::new(), sample: 0, engine: ENGINE.into(), message }
}

impl Generator for NativeGenerator {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        request.validate()?;
        let Engine { tokenizer, position_limit, queue, .. } = &*self.engine;
        let prompt = EncodedPrompt::new(tokenizer, request, *position_limit)?;
        let recorder = prompt.recorder(tokenizer, request);
        let (reply, answer) = mpsc::channel();
        queue.push(Job { prompt: prompt.ids.clone(), recorder, reply });
        let failed = |message: String| InferenceError::Engine {
            prompt_id: request.prompt_id.clone(),
            sample: request.sample,
            engine: ENGINE.into(),
            message,
        };
        match answer.recv() {
            Ok(Ok(recording)) => prompt.completion(tokenizer, request, recording),
            Ok(Err(Failure::Logits(error))) => Err(error.into()),
            Ok(Err(Failure::Model(message) | Failure::Device(message))) => Err(failed(message)),
            Err(_) => Err(failed("its worker panicked".into())),
        }
    }

    fn engine(&self) -> EngineInfo {
        self.engine.info.clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.queue.close();
        for worker in self.workers.drain(..) {
            // A panic has closed the reply channels of its requests already.
            let _ = worker.join();
        }
    }
}
