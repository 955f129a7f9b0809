//! One engine, one request at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mistralrs::core::ModelDType;
use mistralrs::{
    Constraint, CustomLogitsProcessor, MistralRs, NormalRequest, RequestMessage, Response, SamplingParams, StopTokens,
    Tensor,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smpo_tokenizer::ChatTokenizer;
use tokio::sync::mpsc;

use super::checkpoint::Checkpoint;
use super::load::{ENGINE, Loaded, load};
use super::recording_sampler::{RecordingSampler, only};
use super::threads::adopt_current;
use crate::{Completion, EncodedPrompt, EngineInfo, Generator, InferenceError, Request};

/// Version of mistral.rs that this crate is built with and was validated on.
const VERSION: &str = "0.8.1";

/// Options of loading a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MistralConfig {
    /// The directory of the model below a PEFT adapter, where `adapter_config.json` names none that exists; for a GGUF
    /// file, the directory of the tokenizer and the chat template, where that is not the file's own.
    pub base: Option<PathBuf>,
    /// Threads that one engine computes with. Absent: one for small weights, where distributing the work costs more
    /// than the work, else the CPU's cores divided by the instances.
    pub threads: Option<usize>,
    /// Index of the CUDA device to compute on; needs the feature `cuda`. The CPU when absent.
    pub cuda: Option<usize>,
    /// Variables of the chat template, such as `enable_thinking`.
    pub template_variables: Map<String, Value>,
}

/// Bytes of weights from which on several threads pay.
const LARGE: u64 = 256 << 20;

/// A model loaded into mistral.rs: in float32, or a GGUF file as it is quantised.
///
/// Not for use from inside an asynchronous runtime: [`Generator::generate`] blocks.
pub struct MistralEngine {
    runner: Arc<MistralRs>,
    tokenizer: ChatTokenizer,
    stop: u32,
    position_limit: usize,
    threads: usize,
    dtype: &'static str,
    cuda: Option<usize>,
}

impl MistralEngine {
    /// Loads a Hugging Face directory, a PEFT adapter directory or a GGUF file. Nothing is fetched from anywhere.
    ///
    /// # Errors
    /// [`InferenceError::MissingFile`], [`InferenceError::InvalidFile`] and [`InferenceError::Tokenizer`] for files
    /// that cannot be used, [`InferenceError::Load`] for errors of the engine.
    pub fn load(model: impl AsRef<Path>, config: &MistralConfig) -> Result<Self, InferenceError> {
        let checkpoint = Checkpoint::open(model.as_ref(), config.base.as_deref())?;
        Self::start(&checkpoint, threads(&checkpoint, config, 1), config)
    }

    /// Loads the same model `instances` times, for as many threads. Each has its own copy of the weights.
    ///
    /// # Errors
    /// As [`MistralEngine::load`].
    pub fn load_instances(
        model: impl AsRef<Path>,
        config: &MistralConfig,
        instances: usize,
    ) -> Result<Vec<Self>, InferenceError> {
        let checkpoint = Checkpoint::open(model.as_ref(), config.base.as_deref())?;
        let instances = instances.max(1);
        let threads = threads(&checkpoint, config, instances);
        (0..instances).map(|_| Self::start(&checkpoint, threads, config)).collect()
    }

    fn start(checkpoint: &Checkpoint, threads: usize, config: &MistralConfig) -> Result<Self, InferenceError> {
        let cuda = config.cuda;
        let loaded = load(checkpoint, ModelDType::F32, cuda, &config.template_variables)?;
        let Loaded { runner, tokenizer, position_limit } = loaded;
        let dtype = match checkpoint {
            Checkpoint::Gguf { quantised: true, .. } => crate::QUANTISED,
            Checkpoint::Gguf { .. } => "gguf",
            Checkpoint::Directory(_) | Checkpoint::Adapter { .. } => "f32",
        };
        let mut engine = MistralEngine { runner, tokenizer, stop: 0, position_limit, threads, dtype, cuda };
        engine.stop = engine.stopping_terminator().ok_or_else(|| InferenceError::Load {
            path: checkpoint.path().to_path_buf(),
            engine: ENGINE,
            message: format!("it stops on none of the terminators {:?}", engine.tokenizer.terminator_ids()),
        })?;
        Ok(engine)
    }

    /// Tokenizer, chat template and terminators of the model.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// Maximum length of prompt and completion together, in tokens.
    pub fn position_limit(&self) -> usize {
        self.position_limit
    }

    /// The first terminator on which the engine stops when it is forced. It refuses a stop token whose text begins other
    /// tokens; then the next one is used, since every terminator reaches the engine as this one.
    fn stopping_terminator(&self) -> Option<u32> {
        self.tokenizer.terminator_ids().iter().copied().find(|&id| {
            let threads = self.threads;
            let force: Arc<dyn CustomLogitsProcessor> = Arc::new(move |logits: &Tensor, _: &[u32]| {
                adopt_current(threads);
                only(id, vec![0.0; logits.elem_count()], logits.device())
            });
            matches!(self.run(vec![id], 2, id, force), Ok(reason) if reason == "stop")
        })
    }

    /// Runs one request; the engine's finish reason.
    fn run(
        &self,
        prompt: Vec<u32>,
        max_tokens: usize,
        stop: u32,
        processor: Arc<dyn CustomLogitsProcessor>,
    ) -> Result<String, String> {
        let (sender, mut response) = mpsc::channel(1);
        let request = NormalRequest {
            messages: RequestMessage::CompletionTokens(prompt),
            // Temperature 0 makes the engine take the arg max, and only one token is left to take.
            sampling_params: SamplingParams {
                temperature: Some(0.0),
                stop_toks: Some(StopTokens::Ids(vec![stop])),
                max_len: Some(max_tokens),
                ..SamplingParams::neutral()
            },
            response: sender,
            return_logprobs: false,
            is_streaming: false,
            id: self.runner.next_request_id(),
            constraint: Constraint::None,
            suffix: None,
            tools: None,
            tool_choice: None,
            logits_processors: Some(vec![processor]),
            return_raw_logits: false,
            web_search_options: None,
            model_id: None,
            truncate_sequence: false,
        };
        let queue = self.runner.get_sender(None).map_err(|error| error.to_string())?;
        queue.blocking_send(mistralrs::Request::Normal(Box::new(request))).map_err(|error| error.to_string())?;
        let answer = response.blocking_recv();
        // The channel closes when the engine has let go of the sequence, so that the next request runs alone.
        while response.blocking_recv().is_some() {}
        match answer {
            Some(Response::CompletionDone(done)) => {
                Ok(done.choices.into_iter().next().map(|choice| choice.finish_reason).unwrap_or_default())
            }
            Some(Response::InternalError(error) | Response::ValidationError(error)) => Err(error.to_string()),
            Some(Response::CompletionModelError(message, _)) => Err(message),
            Some(_) => Err("it returned something else than a completion".into()),
            None => Err("it ended without a response".into()),
        }
    }
}

/// [`MistralConfig::threads`] with its default.
fn threads(checkpoint: &Checkpoint, config: &MistralConfig, instances: usize) -> usize {
    let chosen = config.threads.unwrap_or_else(|| match checkpoint.weight_bytes() < LARGE {
        true => 1,
        false => std::thread::available_parallelism().map_or(1, usize::from) / instances,
    });
    chosen.max(1)
}

impl Generator for MistralEngine {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        request.validate()?;
        let failed = |message: String| InferenceError::Engine {
            prompt_id: request.prompt_id.clone(),
            sample: request.sample,
            engine: ENGINE.into(),
            message,
        };
        let prompt = EncodedPrompt::new(&self.tokenizer, request, self.position_limit)?;
        let recorder = prompt.recorder(&self.tokenizer, request);
        let sampler = Arc::new(RecordingSampler::new(recorder, self.stop, prompt.ids.len()));
        let outcome = self.run(prompt.ids.clone(), prompt.cap, self.stop, sampler.clone());
        // The recorder's own error is more precise than the engine's echo of it.
        let recording = sampler.take()?;
        let reason = outcome.map_err(failed)?;
        let length = recording.token_ids.len();
        if length < prompt.cap && recording.token_ids.last().is_none_or(|&id| !self.tokenizer.is_terminator(id)) {
            return Err(failed(format!(
                "it stopped ({reason}) after {length} of {} tokens without a terminator",
                prompt.cap
            )));
        }
        prompt.completion(&self.tokenizer, request, recording)
    }

    fn engine(&self) -> EngineInfo {
        EngineInfo {
            name: ENGINE.into(),
            version: VERSION.into(),
            dtype: Some(self.dtype.into()),
            device: self.cuda.map_or("cpu".into(), |index| format!("cuda:{index}")),
        }
    }
}
