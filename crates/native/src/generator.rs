//! Generators that share one decoder.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use smpo_inference::{Completion, EncodedPrompt, EngineInfo, Generator, InferenceError, Request};
use smpo_model::PackedDecoder;
use smpo_tokenizer::ChatTokenizer;

use crate::options::{Layout, NativeOptions};
use crate::queue::{Failure, Job, Queue};
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
        let layout = Layout::new(&decoder, options);
        let position_limit = decoder.spec().max_positions.unwrap_or(usize::MAX);
        let (decoder, queue) = (Arc::new(decoder), Arc::new(Queue::default()));
        let mut engine = Engine { tokenizer: tokenizer.into(), position_limit, queue, workers: Vec::new() };
        for index in 0..layout.workers {
            let (decoder, queue) = (decoder.clone(), engine.queue.clone());
            let failed = |error: &dyn std::fmt::Display| InferenceError::Engine {
                prompt_id: String::new(),
                sample: 0,
                engine: ENGINE.into(),
                message: format!("worker {index} could not be started: {error}"),
            };
            let pool = pool(layout).map_err(|error| failed(&error))?;
            let worker = std::thread::Builder::new()
                .name(format!("native-{index}"))
                .spawn(move || pool.install(|| work(&decoder, &queue, layout)))
                .map_err(|error| failed(&error))?;
            engine.workers.push(worker);
        }
        Ok(vec![NativeGenerator { engine: Arc::new(engine) }; layout.workers * layout.sequences])
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
            Ok(Err(Failure::Model(message))) => Err(failed(message)),
            Err(_) => Err(failed("its worker panicked".into())),
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
            // A panic has closed the reply channels of its requests already.
            let _ = worker.join();
        }
    }
}
