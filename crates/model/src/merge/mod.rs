//! Merging checkpoints of one architecture, tensor by tensor: no more than one tensor of each model is in memory.
//!
//! Merging the model before and after preference tuning is one of the known mitigations for what the tuning breaks.
//! Nothing here knows a family: whatever has the same tensors can be merged.

mod method;
mod tensor;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use method::MergeMethod;
use tensor::MergedTensor;

use crate::error::{ModelError, Result, list};
use crate::save::{copy_companions, write_directory, write_json};
use crate::weights::{Element, WeightFiles, write_tensors};

/// What a merge wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeReport {
    /// Tensors written.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: usize,
    /// Files they lie in.
    pub shards: usize,
}

/// Merges model directories into `out`, which must be absent or empty.
///
/// Configuration, tokenizer and the division into shards are the first model's, and so are the element types unless
/// `element` names one.
///
/// # Errors
/// When the method does not fit the number of models, the models differ in tensors or shapes, a file is damaged, or
/// `out` holds something.
pub fn merge(
    models: &[PathBuf],
    method: &MergeMethod,
    element: Option<Element>,
    out: impl AsRef<Path>,
) -> Result<MergeReport> {
    let weights = method.checked_weights(models.len())?;
    let sources = models.iter().map(|dir| WeightFiles::open(dir, "model")).collect::<Result<Vec<_>>>()?;
    let base = method.base().map(|dir| WeightFiles::open(dir, "model")).transpose()?;
    let Some(first) = sources.first() else {
        return Err(ModelError::input("models to merge", "at least one", "none"));
    };
    for other in sources.iter().skip(1).chain(&base) {
        check_alike(first, other)?;
    }
    let mut report = MergeReport { tensors: 0, parameters: 0, shards: first.files().len() };
    let mut shards = BTreeMap::new();
    write_directory(out.as_ref(), |staging| {
        for file in first.files() {
            let mut tensors = Vec::new();
            for name in file.names() {
                let tensor = MergedTensor::new(name, &sources, base.as_ref(), method, &weights, element)?;
                report.tensors += 1;
                report.parameters += tensor.count();
                shards.insert(tensor.name().to_string(), file_name(file.path()));
                tensors.push((tensor.name().to_string(), tensor));
            }
            write_tensors(&staging.join(file_name(file.path())), tensors)?;
        }
        if report.shards > 1 {
            let index = json!({"metadata": {"total_parameters": report.parameters}, "weight_map": shards});
            write_json(&staging.join("model.safetensors.index.json"), &index)?;
        }
        write_config(&models[0], staging, element)?;
        copy_companions(&models[0], staging)
    })?;
    Ok(report)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Refuses models that do not have the same tensors.
fn check_alike(first: &WeightFiles, other: &WeightFiles) -> Result<()> {
    let missing: Vec<&str> = first.names().filter(|n| !other.contains(n)).collect();
    if !missing.is_empty() {
        return Err(ModelError::MissingTensors { path: other.dir().to_path_buf(), names: list(&missing) });
    }
    let extra: Vec<&str> = other.names().filter(|n| !first.contains(n)).collect();
    if !extra.is_empty() {
        return Err(ModelError::ExtraTensors { path: other.dir().to_path_buf(), names: list(&extra) });
    }
    for name in first.names() {
        let (expected, _) = first.describe(name)?;
        let (got, _) = other.describe(name)?;
        if expected != got {
            let path = other.dir().to_path_buf();
            return Err(ModelError::Shape { path, tensor: name.to_string(), expected, got });
        }
    }
    Ok(())
}

/// The first model's configuration, with the element type it now has.
fn write_config(source: &Path, staging: &Path, element: Option<Element>) -> Result<()> {
    let path = source.join("config.json");
    let text = fs::read_to_string(&path).map_err(ModelError::io(&path))?;
    let mut config: Value =
        serde_json::from_str(&text).map_err(|source| ModelError::Json { path: path.clone(), source })?;
    if let (Some(element), Some(fields)) = (element, config.as_object_mut()) {
        fields.insert("dtype".into(), json!(element.name()));
        fields.insert("torch_dtype".into(), json!(element.name()));
    }
    write_json(&staging.join("config.json"), &config)
}
