//! The weights of a model directory: `model.safetensors`, or shards listed in `model.safetensors.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::View;
use serde::{Deserialize, Serialize};
use smpo_files::FileError;

use super::{WeightDtype, WeightFile};
use crate::error::{ModelError, Result, list};
use crate::save::write_json;

/// Suffix of the index's name after the stem.
const INDEX: &str = ".safetensors.index.json";

/// All weight files of a directory, and the file of each tensor.
pub(crate) struct WeightFiles {
    dir: PathBuf,
    files: Vec<WeightFile>,
    by_name: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Opens `<stem>.safetensors`, or the shards of `<stem>.safetensors.index.json`.
    pub fn open(dir: &Path, stem: &str) -> Result<Self> {
        let single = dir.join(format!("{stem}.safetensors"));
        let index = dir.join(format!("{stem}{INDEX}"));
        if single.exists() || !index.exists() {
            let file = WeightFile::open(&single)?;
            let by_name = file.names().into_iter().map(|n| (n, 0)).collect();
            return Ok(Self { dir: dir.to_path_buf(), files: vec![file], by_name });
        }
        let text = fs::read_to_string(&index).map_err(FileError::at(&index, "read"))?;
        let Index { weight_map } =
            serde_json::from_str(&text).map_err(|source| ModelError::Json { path: index.clone(), source })?;
        let shards: BTreeSet<&String> = weight_map.values().collect();
        let mut files = Vec::with_capacity(shards.len());
        let mut by_name = BTreeMap::new();
        for shard in shards {
            // A name with a directory in it could point anywhere on the disk.
            if Path::new(shard).file_name() != Some(shard.as_ref()) {
                return Err(ModelError::Field {
                    path: index,
                    field: "weight_map".into(),
                    expected: "names of files in the same directory".into(),
                    got: shard.clone(),
                });
            }
            let file = WeightFile::open(&dir.join(shard))?;
            let listed: Vec<&String> = weight_map.iter().filter(|(_, s)| *s == shard).map(|(n, _)| n).collect();
            let absent: Vec<_> = listed.iter().filter(|n| !file.contains(n)).collect();
            if !absent.is_empty() {
                return Err(ModelError::MissingTensors { path: file.path().to_path_buf(), names: list(&absent) });
            }
            // Tensors of the shard that are not in the index are included, so that they are refused by name.
            by_name.extend(file.names().into_iter().map(|n| (n, files.len())));
            files.push(file);
        }
        Ok(Self { dir: dir.to_path_buf(), files, by_name })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub fn file_of(&self, name: &str) -> Option<&WeightFile> {
        self.by_name.get(name).map(|i| &self.files[*i])
    }

    pub fn describe(&self, name: &str) -> Result<(Vec<usize>, WeightDtype)> {
        self.owner(name)?.describe(name)
    }

    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<WeightDtype> {
        self.owner(name)?.expect(name, shape)
    }

    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.owner(name)?.read(name, shape)
    }

    /// The file of a tensor.
    pub fn owner(&self, name: &str) -> Result<&WeightFile> {
        self.file_of(name)
            .ok_or_else(|| ModelError::MissingTensors { path: self.dir.clone(), names: format!("`{name}`") })
    }
}

/// Index of a model's shards being written.
#[derive(Default, Serialize)]
pub(crate) struct ShardIndex {
    metadata: Totals,
    weight_map: BTreeMap<String, String>,
}

#[derive(Default, Serialize)]
struct Totals {
    total_parameters: usize,
    total_size: usize,
}

impl ShardIndex {
    /// Adds a tensor with its file.
    pub fn add(&mut self, name: &str, file: &str, tensor: &impl View) {
        self.metadata.total_parameters += tensor.shape().iter().product::<usize>();
        self.metadata.total_size += tensor.data_len();
        self.weight_map.insert(name.to_string(), file.to_string());
    }

    /// Number of values in all tensors.
    pub fn parameters(&self) -> usize {
        self.metadata.total_parameters
    }

    /// Writes `model.safetensors.index.json`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(format!("model{INDEX}"));
        let value = serde_json::to_value(self).map_err(|source| ModelError::Json { path: path.clone(), source })?;
        write_json(&path, &value)
    }
}
