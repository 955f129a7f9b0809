//! Saving a model as a directory that transformers 4 and 5, vLLM and mistral.rs load.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::View;
use smpo_files::{FileError, is_dir, is_file};

use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::gguf::is_gguf;
use crate::lora::LABELS_FILE;
use crate::parameter::Parameter;
use crate::weights::{OutputTensor, ShardIndex, StoredTensor, WeightDtype, stack_experts, write_tensors};

/// Options of saving a model.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// Model directory whose [`TOKENIZER_FILES`] are copied.
    pub source: Option<PathBuf>,
    /// Directory whose [`TOKENIZER_FILES`] take precedence: an adapter's own.
    pub overlay: Option<PathBuf>,
    /// dtype of the weights.
    pub dtype: WeightDtype,
    /// Maximum size of a weight file, in bytes: larger weights are split into shards with an index. A tensor is never split.
    pub shard_bytes: Option<u64>,
}

/// Files of tokenizer, chat template, generation settings and image processor; saving copies those that the source has.
pub const TOKENIZER_FILES: [&str; 14] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "tekken.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
];

/// Directory of further chat templates, by name.
const TEMPLATES: &str = "additional_chat_templates";

impl Decoder {
    /// Writes `config.json`, the weights and the source's [`TOKENIZER_FILES`] to `dir`, which must be absent or
    /// empty.
    ///
    /// The directory is written whole ([`smpo_files::write_dir_whole`]).
    ///
    /// # Errors
    /// When the model has adapters, `dir` is not empty, or a file cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>, options: &SaveOptions) -> Result<()> {
        if self.lora().is_some() {
            return Err(ModelError::input(
                "model to save whole",
                "one without adapters; merge them, or save them as an adapter",
                "one with adapters",
            ));
        }
        write_directory(dir.as_ref(), |staging| {
            let dtype = options.dtype;
            let renamed = |name: &str| self.wrapped.as_ref().map_or_else(|| name.to_owned(), |w| w.names.wrapped(name));
            let stored = |p: &Parameter| -> Result<_> {
                Ok((renamed(&p.name), StoredTensor::new(&p.tensor, dtype)?.gathered(self.block_of(p))))
            };
            let own = self.base_parameters().map(stored);
            let packed =
                self.packed().map(|packed| Ok((renamed(&packed.name), StoredTensor::packed(&packed.weight, dtype))));
            let own = own.chain(packed).collect::<Result<Vec<_>>>()?;
            let own = stack_experts(Some(self.spec()), own).into_iter();
            let mut tensors: Vec<_> = own.map(|(name, tensor)| (name, OutputTensor::Stored(tensor))).collect();
            for tensor in self.wrapped.iter().flat_map(|wrapped| wrapped.files.rest()) {
                let (name, tensor) = tensor?;
                tensors.push((name, OutputTensor::Copied(tensor)));
            }
            write_weights(staging, tensors, options.shard_bytes)?;
            write_json(&staging.join("config.json"), &self.config().to_json(dtype.name()))?;
            options.source.iter().chain(&options.overlay).try_for_each(|source| copy_tokenizer_files(source, staging))
        })
    }
}

/// Writes one weight file, or shards within the limit and their index.
pub(crate) fn write_weights<V: View>(
    staging: &Path,
    tensors: Vec<(String, V)>,
    shard_bytes: Option<u64>,
) -> Result<()> {
    let mut shards: Vec<(u64, Vec<(String, V)>)> = vec![(0, Vec::new())];
    for (name, tensor) in tensors {
        let bytes = tensor.data_len() as u64;
        match shards.last_mut() {
            Some((used, shard)) if shard.is_empty() || *used + bytes <= shard_bytes.unwrap_or(u64::MAX) => {
                *used += bytes;
                shard.push((name, tensor));
            }
            _ => shards.push((bytes, vec![(name, tensor)])),
        }
    }
    let count = shards.len();
    let mut index = ShardIndex::default();
    for (number, (_, shard)) in shards.into_iter().enumerate() {
        let file = match count {
            1 => "model.safetensors".to_string(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        for (name, tensor) in &shard {
            index.add(name, &file, tensor);
        }
        write_tensors(&staging.join(file), shard)?;
    }
    if count > 1 { index.write(staging) } else { Ok(()) }
}

/// Writes a directory whole; refuses one that is not empty.
pub(crate) fn write_directory(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if is_dir(dir)? && fs::read_dir(dir).map_err(FileError::at(dir, "list"))?.next().is_some() {
        return Err(ModelError::NotEmpty { path: dir.to_path_buf() });
    }
    smpo_files::write_dir_whole(dir, fill)
}

pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|source| ModelError::Json { path: path.to_path_buf(), source })?;
    text.push('\n');
    Ok(fs::write(path, text).map_err(FileError::at(path, "write"))?)
}

/// Copies the tokenizer's files of a model, or writes those that a GGUF file describes.
///
/// # Errors
/// When a file cannot be read or written, or a GGUF file describes no tokenizer that is read.
pub fn copy_tokenizer_files(source: &Path, target: &Path) -> Result<()> {
    if is_gguf(source)? {
        return match smpo_gguf::tokenizer_home(source)? {
            None => Ok(smpo_gguf::write_companions(source, target)?),
            Some(beside) => copy_tokenizer_files(&beside, target),
        };
    }
    for name in TOKENIZER_FILES {
        let from = source.join(name);
        if is_file(&from)? {
            let to = target.join(name);
            smpo_files::copy(&from, &to)?;
        }
    }
    Ok(copy_additional_templates(source, target)?)
}

/// Copies the further chat templates of a model directory, `additional_chat_templates/*.jinja`.
///
/// # Errors
/// When a file cannot be read or written.
fn copy_additional_templates(source: &Path, target: &Path) -> std::result::Result<(), FileError> {
    let (from, to) = (source.join(TEMPLATES), target.join(TEMPLATES));
    if !is_dir(&from)? {
        return Ok(());
    }
    for entry in fs::read_dir(&from).map_err(FileError::at(&from, "list"))? {
        let path = entry.map_err(FileError::at(&from, "read"))?.path();
        if let Some(name) =
            path.file_name().filter(|_| path.is_file() && path.extension().is_some_and(|end| end == "jinja"))
        {
            fs::create_dir_all(&to).map_err(FileError::at(&to, "create"))?;
            smpo_files::copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Names of the files in a model directory that belong to neither weights, configuration nor [`TOKENIZER_FILES`], sorted:
/// saving leaves them behind.
pub fn files_left_behind(dir: &Path) -> Vec<String> {
    const WEIGHTS: [&str; 9] =
        [".safetensors", ".index.json", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5", ".onnx"];
    let known = |name: &str| {
        TOKENIZER_FILES.contains(&name)
            || ["config.json", "adapter_config.json", "smpo_base.json", LABELS_FILE].contains(&name)
            || name.starts_with('.')
            || WEIGHTS.iter().any(|end| name.ends_with(end))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_file());
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !known(name));
    names.sort();
    names
}
