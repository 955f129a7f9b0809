//! Loading a checked checkpoint into mistral.rs, on a thread of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mistralrs::Device;
use mistralrs::core::{
    AdapterPaths, DefaultSchedulerMethod, DeviceMapSetting, GGUFLoaderBuilder, GGUFSpecificConfig, Loader,
    LocalModelPaths, LoraAdapterPaths, MistralRs, MistralRsBuilder, ModelDType, ModelPaths, NormalLoaderBuilder,
    NormalSpecificConfig, SchedulerConfig,
};
use serde_json::{Map, Value};
use smpo_tokenizer::ChatTokenizer;
use tempfile::NamedTempFile;

use super::checkpoint::{Checkpoint, Directory};
use crate::InferenceError;

pub(super) const ENGINE: &str = "mistral.rs";

/// A running engine with tokenizer and position limit.
pub(super) struct Loaded {
    pub runner: Arc<MistralRs>,
    pub tokenizer: ChatTokenizer,
    pub position_limit: usize,
}

/// Loads on a fresh thread: mistral.rs keeps the adapters it has merged in a thread-local list that it never clears,
/// so a second load on the same thread would merge them again; and a panic inside it stays there.
pub(super) fn load(
    checkpoint: &Checkpoint,
    dtype: ModelDType,
    cuda: Option<usize>,
    variables: &Map<String, Value>,
) -> Result<Loaded, InferenceError> {
    let checkpoint = checkpoint.clone();
    let path = checkpoint.path().to_path_buf();
    let variables = variables.clone();
    let loading = std::thread::spawn(move || load_here(&checkpoint, dtype, cuda, &variables));
    loading.join().unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it panicked");
        Err(failed(&path, message))
    })
}

fn failed(path: &Path, message: impl ToString) -> InferenceError {
    // With RUST_BACKTRACE its errors carry a backtrace.
    let message = message.to_string();
    let end =
        ["\n   0: ", "\n\nStack backtrace", "\nStack backtrace"].iter().filter_map(|mark| message.find(mark)).min();
    let message = message[..end.unwrap_or(message.len())].trim_end().to_owned();
    InferenceError::Load { path: path.to_path_buf(), engine: ENGINE, message }
}

fn load_here(
    checkpoint: &Checkpoint,
    dtype: ModelDType,
    cuda: Option<usize>,
    variables: &Map<String, Value>,
) -> Result<Loaded, InferenceError> {
    let path = checkpoint.path();
    // Tokenizer, template and terminators first: their errors need no weights.
    let tokenizer = match checkpoint {
        Checkpoint::Directory(Directory { path, .. }) | Checkpoint::Gguf { model: path, .. } => {
            ChatTokenizer::from_model_dir(path)
        }
        Checkpoint::Adapter { base, adapter } => ChatTokenizer::of_model(&base.path, Some(&adapter.path)),
    };
    let tokenizer = tokenizer.and_then(|tokenizer| tokenizer.with_variables(variables)).map_err(Box::new)?;
    let Plan { loader, paths, _written } = plan(checkpoint, &tokenizer)?;
    let device = match cuda {
        None => Device::Cpu,
        Some(index) => Device::new_cuda(index).map_err(|error| failed(path, error))?,
    };
    let mapping = DeviceMapSetting::dummy();
    let pipeline = loader
        .load_model_from_path(&paths, &dtype, &device, true, mapping, None, None)
        .map_err(|error| failed(path, format!("{error:#}")))?;

    let engine_limit = pipeline.try_lock().map_err(|error| failed(path, error))?.get_metadata().max_seq_len;
    let scheduler = SchedulerConfig::DefaultScheduler {
        method: DefaultSchedulerMethod::Fixed(1.try_into().map_err(|error| failed(path, error))?),
    };
    let own_limit = match checkpoint {
        Checkpoint::Directory(directory) | Checkpoint::Adapter { base: directory, .. } => {
            directory.config.position_limit
        }
        Checkpoint::Gguf { .. } => None,
    };
    let position_limit = own_limit.map_or(engine_limit, |limit| limit.min(engine_limit));
    let builder =
        MistralRsBuilder::new(pipeline, scheduler, false, None).with_no_prefix_cache(true).with_disable_eos_stop(true);
    // A runtime of one thread, for the one await; on a larger one mistral.rs makes a dummy run.
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| failed(path, error))?;
    let runner = runtime.block_on(builder.build());
    Ok(Loaded { runner, tokenizer, position_limit })
}

type Paths = Box<dyn ModelPaths>;

/// Arguments of a load.
struct Plan {
    loader: Box<dyn Loader>,
    paths: Paths,
    /// A configuration or tokenizer written for the load, which must be there until it is over.
    _written: Option<NamedTempFile>,
}

fn plan(checkpoint: &Checkpoint, tokenizer: &ChatTokenizer) -> Result<Plan, InferenceError> {
    let (directory, adapter) = match checkpoint {
        Checkpoint::Directory(directory) => (directory, None),
        Checkpoint::Adapter { base, adapter } => (base, Some(adapter)),
        Checkpoint::Gguf { file, parts, .. } => {
            let text = tokenizer.tokenizer().to_string(false).map_err(|error| failed(file, error))?;
            let written = temporary(file, "tokenizer", &text)?;
            let paths = local_paths(written.path().to_path_buf(), PathBuf::new(), parts.clone(), AdapterPaths::None);
            let names = parts.iter().map(|part| part.display().to_string()).collect();
            let (name, config) = (file.display().to_string(), GGUFSpecificConfig::default());
            let loader = GGUFLoaderBuilder::new(None, None, name, names, config, false, None).build();
            return Ok(Plan { loader, paths, _written: Some(written) });
        }
    };
    let rewritten = directory
        .config
        .rewritten
        .as_ref()
        .map(|config| temporary(&directory.path, "config", &config.to_string()))
        .transpose()?;
    let config = rewritten.as_ref().map_or(directory.config.path.as_path(), NamedTempFile::path).to_path_buf();
    let builder = NormalLoaderBuilder::new(
        NormalSpecificConfig::default(),
        None,
        None,
        Some(directory.path.display().to_string()),
        false,
        None,
    );
    let (builder, adapters) = match adapter {
        None => (builder, AdapterPaths::None),
        Some(adapter) => {
            let text = fs::read_to_string(&adapter.config).map_err(|error| failed(&adapter.config, error))?;
            let lora_config = serde_json::from_str(&text).map_err(|error| failed(&adapter.config, error))?;
            let adapters = vec![LoraAdapterPaths { lora_config, adapter_path: adapter.weights.clone() }];
            (builder.with_lora(vec![adapter.path.display().to_string()]), AdapterPaths::Lora(adapters))
        }
    };
    let loader = builder.build(None).map_err(|error| failed(&directory.path, format!("{error:#}")))?;
    let paths = local_paths(directory.tokenizer.clone(), config, directory.weights.clone(), adapters);
    Ok(Plan { loader, paths, _written: rewritten })
}

/// No template and no generation configuration: the engine neither renders nor ends anything, and its use of them
/// (reasoning modes, fetching an encoding) is to be avoided.
fn local_paths(tokenizer: PathBuf, config: PathBuf, weights: Vec<PathBuf>, adapters: AdapterPaths) -> Paths {
    Box::new(LocalModelPaths {
        tokenizer_filename: tokenizer,
        config_filename: config,
        template_filename: None,
        filenames: weights,
        adapter_paths: adapters,
        gen_conf: None,
        preprocessor_config: None,
        processor_config: None,
        chat_template_json_filename: None,
    })
}

/// A temporary JSON file for a model.
fn temporary(model: &Path, name: &str, text: &str) -> Result<NamedTempFile, InferenceError> {
    let write = || {
        let mut file = tempfile::Builder::new().prefix(&format!("{name}-")).suffix(".json").tempfile()?;
        file.write_all(text.as_bytes())?;
        file.flush()?;
        Ok(file)
    };
    write().map_err(|error: std::io::Error| failed(model, format!("cannot write a temporary {name}.json: {error}")))
}
