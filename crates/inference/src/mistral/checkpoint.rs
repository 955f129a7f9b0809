//! The files of a model, checked before the engine loads them: its own messages about a missing one are panics or
//! misleading.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use smpo_gguf::GgufFile;

use super::config_file::ConfigFile;
use crate::InferenceError;

/// A model on disk.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Checkpoint {
    /// Weights, configuration and tokenizer in Hugging Face's layout.
    Directory(Directory),
    /// The same with a PEFT LoRA adapter merged in while loading.
    Adapter { base: Directory, adapter: Adapter },
    /// A GGUF file with all its parts. The tokenizer is the one of `model`, the file itself or a directory, as this project
    /// reads it: mistral.rs 0.8.1 rebuilds it with one pre-tokenizer for all models, and a prompt cut up differently is
    /// another prompt.
    Gguf { file: PathBuf, parts: Vec<PathBuf>, quantised: bool, model: PathBuf },
}

/// A Hugging Face directory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Directory {
    pub path: PathBuf,
    pub weights: Vec<PathBuf>,
    pub tokenizer: PathBuf,
    pub config: ConfigFile,
}

/// A PEFT adapter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Adapter {
    pub path: PathBuf,
    pub config: PathBuf,
    pub weights: PathBuf,
}

const COPY_THE_BASE: &str =
    "copy it from the model this one was trained from, or save the tokenizer beside the weights";

impl Checkpoint {
    /// Opens a directory, an adapter or a GGUF file. `base` names the model below an adapter where `adapter_config.json` does not name a
    /// directory, and the directory of a tokenizer that is taken in place of a GGUF file's own.
    pub fn open(path: &Path, base: Option<&Path>) -> Result<Self, InferenceError> {
        if smpo_gguf::is_gguf(path)? {
            let file = GgufFile::open(path)?;
            return Ok(Checkpoint::Gguf {
                file: path.to_path_buf(),
                parts: GgufFile::files(path),
                quantised: file.tensors().any(|tensor| tensor.ggml_type().is_quantised()),
                model: base.unwrap_or(path).to_path_buf(),
            });
        }
        if !path.is_dir() {
            return Err(InferenceError::MissingFile {
                path: path.to_path_buf(),
                what: "model (neither a directory nor a .gguf file)",
                remedy: "give a Hugging Face directory, a PEFT adapter directory or a .gguf file".into(),
            });
        }
        if path.join("adapter_config.json").is_file() {
            let (adapter, named) = Adapter::open(path)?;
            let base = match base {
                Some(base) => base.to_path_buf(),
                None => base_directory(path, named.as_deref())?,
            };
            return Ok(Checkpoint::Adapter { base: Directory::open(&base)?, adapter });
        }
        Directory::open(path).map(Checkpoint::Directory)
    }

    /// The path that was opened, for errors.
    pub fn path(&self) -> &Path {
        match self {
            Checkpoint::Directory(directory) => &directory.path,
            Checkpoint::Adapter { adapter, .. } => &adapter.path,
            Checkpoint::Gguf { file, .. } => file,
        }
    }

    /// Size of the weights on disk.
    pub fn weight_bytes(&self) -> u64 {
        let files = match self {
            Checkpoint::Directory(directory) | Checkpoint::Adapter { base: directory, .. } => &directory.weights[..],
            Checkpoint::Gguf { parts, .. } => parts,
        };
        files.iter().filter_map(|file| fs::metadata(file).ok()).map(|metadata| metadata.len()).sum()
    }
}

impl Directory {
    fn open(path: &Path) -> Result<Self, InferenceError> {
        let config = path.join("config.json");
        require(&config, "the model's configuration", "give a directory that transformers' save_pretrained wrote")?;
        let tokenizer = path.join("tokenizer.json");
        require(&tokenizer, "the tokenizer", COPY_THE_BASE)?;
        Ok(Directory {
            path: path.to_path_buf(),
            weights: weights(path)?,
            tokenizer,
            config: ConfigFile::read(&config)?,
        })
    }
}

impl Adapter {
    /// The adapter, and the base model it names.
    fn open(path: &Path) -> Result<(Self, Option<String>), InferenceError> {
        let config = path.join("adapter_config.json");
        let weights = path.join("adapter_model.safetensors");
        require(&weights, "the adapter's weights", "save the adapter with peft's save_pretrained")?;
        let fields = read_json(&config)?;
        let invalid = |problem: String, remedy: &str| InferenceError::InvalidFile {
            path: config.clone(),
            problem,
            remedy: remedy.into(),
        };
        const MERGE: &str = "merge the adapter into its base model and evaluate the merged directory";
        if fields["peft_type"] != "LORA" {
            return Err(invalid(format!("expected peft_type \"LORA\", got {}", fields["peft_type"]), MERGE));
        }
        // mistral.rs merges W + alpha/r · B·A by matching module names, and reads nothing else of this file.
        if !fields["target_modules"].is_array() {
            let got = &fields["target_modules"];
            return Err(invalid(format!("expected a list of target_modules, got {got}"), MERGE));
        }
        if fields["bias"].as_str().is_some_and(|bias| bias != "none") {
            return Err(invalid(format!("expected bias \"none\", got {}", fields["bias"]), MERGE));
        }
        for key in ["use_rslora", "use_dora", "fan_in_fan_out", "lora_bias"] {
            if fields[key] == true {
                return Err(invalid(format!("{key} is true, and mistral.rs would ignore it"), MERGE));
            }
        }
        const UNREAD: [&str; 9] = [
            "rank_pattern",
            "alpha_pattern",
            "modules_to_save",
            "layers_to_transform",
            "layer_replication",
            "exclude_modules",
            "target_parameters",
            "trainable_token_indices",
            "alora_invocation_tokens",
        ];
        for key in UNREAD {
            let empty = match &fields[key] {
                Value::Null => true,
                Value::Array(values) => values.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            if !empty {
                return Err(invalid(format!("{key} is {}, and mistral.rs would ignore it", fields[key]), MERGE));
            }
        }
        let base = fields["base_model_name_or_path"].as_str().map(str::to_owned);
        Ok((Adapter { path: path.to_path_buf(), config, weights }, base))
    }
}

fn base_directory(adapter: &Path, named: Option<&str>) -> Result<PathBuf, InferenceError> {
    let named = named.unwrap_or_default();
    let candidates = [PathBuf::from(named), adapter.join(named)];
    candidates.into_iter().find(|path| !named.is_empty() && path.join("config.json").is_file()).ok_or_else(|| {
        InferenceError::InvalidFile {
            path: adapter.join("adapter_config.json"),
            problem: format!("expected base_model_name_or_path to be a local model directory, got {named:?}"),
            remedy: "name the base model's directory; nothing is downloaded".into(),
        }
    })
}

/// The safetensors files: the one, else the index's, as transformers and this project's own reader choose.
fn weights(directory: &Path) -> Result<Vec<PathBuf>, InferenceError> {
    let index = directory.join("model.safetensors.index.json");
    let single = directory.join("model.safetensors");
    if single.is_file() || !index.is_file() {
        require(&single, "the weights", "save them as safetensors (transformers: safe_serialization=True)")?;
        return Ok(vec![single]);
    }
    let fields = read_json(&index)?;
    let map = fields["weight_map"].as_object().ok_or_else(|| InferenceError::InvalidFile {
        path: index.clone(),
        problem: "expected an object `weight_map`, got none".into(),
        remedy: "save the model again".into(),
    })?;
    let leads_out = |name: &&str| Path::new(name).file_name() != Some(name.as_ref());
    if let Some(name) = map.values().filter_map(Value::as_str).find(leads_out) {
        return Err(InferenceError::InvalidFile {
            path: index,
            problem: format!("expected names of files in the same directory in `weight_map`, got {name:?}"),
            remedy: "save the model again".into(),
        });
    }
    let mut shards: Vec<PathBuf> = map.values().filter_map(Value::as_str).map(|name| directory.join(name)).collect();
    shards.sort();
    shards.dedup();
    for shard in &shards {
        require(shard, "a shard of the weights", "its name is in model.safetensors.index.json; copy it here")?;
    }
    Ok(shards)
}

fn require(path: &Path, what: &'static str, remedy: &str) -> Result<(), InferenceError> {
    if path.is_file() {
        return Ok(());
    }
    Err(InferenceError::MissingFile { path: path.to_path_buf(), what, remedy: remedy.into() })
}

pub(super) fn read_json(path: &Path) -> Result<Value, InferenceError> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    serde_json::from_str(text).map_err(|error| InferenceError::InvalidFile {
        path: path.to_path_buf(),
        problem: format!("expected JSON, got {error}"),
        remedy: "restore the file".into(),
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> InferenceError {
    InferenceError::InvalidFile {
        path: path.to_path_buf(),
        problem: format!("cannot be read: {error}"),
        remedy: "check the file and its permissions".into(),
    }
}
