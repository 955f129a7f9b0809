//! Merging checkpoints of one architecture, tensor by tensor: at most one merged tensor, and a part of it from each model,
//! is in memory.
//!
//! Merging the model before and after preference tuning is a known mitigation of the damage that tuning does.
//! Models of any family can be merged if their tensors match.

mod method;
mod rule;
mod source;
mod tensor;
mod trim;

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

pub use method::MergeMethod;
use tensor::{Merge, MergedTensor};

use crate::config::{Config, read_json};
use crate::error::{ModelError, Result};
use crate::save::{copy_tokenizer_files, write_directory, write_json};
use crate::spec::DecoderSpec;
use crate::weights::{ShardIndex, WeightDtype, stack_experts, write_tensors};

/// Summary of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MergeReport {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of parameters.
    pub parameters: usize,
    /// Number of weight files.
    pub shards: usize,
}

/// Merges model directories into `out`, which must be absent or empty.
///
/// Configuration, tokenizer and the division into shards are the first model's, and so are the dtypes unless
/// `dtype` is given. `progress` is called before each tensor with its index and their number, and may stop the
/// merge.
///
/// # Errors
/// [`ModelError::Stopped`] when it does. When the method does not fit the number of models, the models differ in tensors,
/// shapes or computation, a file is damaged, or `out` is not empty.
pub fn merge(
    models: &[PathBuf],
    method: &MergeMethod,
    dtype: Option<WeightDtype>,
    out: impl AsRef<Path>,
    progress: impl Fn(usize, usize) -> ControlFlow<()>,
) -> Result<MergeReport> {
    let weights = method.checked_weights(models.len())?;
    let sources = models.iter().map(|dir| source::open(dir)).collect::<Result<Vec<_>>>()?;
    let base = method.base().map(source::open).transpose()?;
    let Some(first) = sources.first() else {
        return Err(ModelError::input("models to merge", "at least one", "none"));
    };
    for other in sources.iter().skip(1).chain(&base) {
        source::check_alike(first, other)?;
    }
    check_configurations(models.iter().map(PathBuf::as_path).chain(method.base()))?;
    let total = first.names().count();
    let done = Cell::new(0);
    let merge = Merge {
        sources: &sources,
        base: base.as_ref(),
        method,
        weights: &weights,
        dtype,
        go_on: &|| {
            done.set(done.get() + 1);
            progress(done.get(), total)
        },
        failure: RefCell::default(),
    };
    let config = Config::from_dir(&models[0]).ok();
    let mut index = ShardIndex::default();
    write_directory(out.as_ref(), |staging| {
        for file in first.files() {
            let mut tensors = Vec::new();
            for name in file.names().into_iter().filter(|name| first.contains(name)) {
                let tensor = MergedTensor::new(&name, &merge)?;
                tensors.push((name, tensor));
            }
            // A GGUF file's experts are read one by one.
            let tensors = stack_experts(config.as_ref().map(Config::spec), tensors);
            for (name, tensor) in &tensors {
                index.add(name, &file.saved_name(), tensor);
            }
            let written = write_tensors(&staging.join(file.saved_name()), tensors);
            written.map_err(|error| merge.failure.take().unwrap_or(error))?;
        }
        if first.files().len() > 1 {
            index.write(staging)?;
        }
        write_config(&models[0], staging, config.as_ref(), dtype)?;
        copy_tokenizer_files(&models[0], staging)
    })?;
    Ok(MergeReport { tensors: total, parameters: index.parameters(), shards: first.files().len() })
}

/// Refuses models that compute differently with equal tensors, where their family is supported.
fn check_configurations<'a>(models: impl Iterator<Item = &'a Path>) -> Result<()> {
    let mut first: Option<(&Path, DecoderSpec)> = None;
    for dir in models {
        let mut spec = match Config::from_dir(dir) {
            Ok(config) => config.spec().clone(),
            Err(ModelError::UnknownFamily { .. } | ModelError::Unsupported { .. }) => continue,
            Err(error) => return Err(error),
        };
        // Initialization and context length do not affect the computation.
        (spec.initializer_range, spec.max_positions) = (0.0, None);
        match &first {
            None => first = Some((dir, spec)),
            Some((other, expected)) if *expected != spec => {
                return Err(ModelError::input(
                    "models to merge",
                    format!("configurations that compute the same as {}", other.join("config.json").display()),
                    format!("another one in {}", dir.join("config.json").display()),
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Writes the first model's configuration with the merged dtype: as other programs read it where the family is known, else as
/// it is.
fn write_config(source: &Path, staging: &Path, config: Option<&Config>, dtype: Option<WeightDtype>) -> Result<()> {
    let (_, mut written) = read_json(source)?;
    let stored = || ["dtype", "torch_dtype"].iter().find_map(|name| Some(written.get(*name)?.as_str()?.to_owned()));
    let name = dtype.map(|dtype| dtype.name().to_owned()).or_else(stored);
    if let (Some(config), Some(name)) = (config, name) {
        return write_json(&staging.join("config.json"), &config.to_json(&name));
    }
    if let (Some(dtype), Some(fields)) = (dtype, written.as_object_mut()) {
        fields.insert("dtype".into(), json!(dtype.name()));
        fields.insert("torch_dtype".into(), json!(dtype.name()));
    }
    write_json(&staging.join("config.json"), &written)
}
