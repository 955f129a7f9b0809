//! The weights of a model directory: `model.safetensors`, or shards listed in `model.safetensors.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::View;
use serde::{Deserialize, Serialize};
use smpo_files::exists;
use smpo_kernels::PackedWeight;

use super::absent::no_weights;
use super::around::unwrapped;
use super::stacked::Stacked;
use super::{CopiedTensor, WeightDtype, WeightFile};
use crate::error::{ModelError, Result, list};
use crate::gguf::{Blocks, is_gguf};
use crate::json_file;
use crate::save::write_json;
use crate::wrapper::TextNames;

/// Suffix of the index's name after the stem.
const INDEX: &str = ".safetensors.index.json";

/// Stem of a model's weights.
const MODEL: &str = "model";

/// All weight files of a directory, and the file of each tensor.
pub(crate) struct WeightFiles {
    dir: PathBuf,
    files: Vec<WeightFile>,
    by_name: BTreeMap<String, Place>,
    /// Tensors of a wrapper that are not of its text half.
    rest: BTreeMap<String, Place>,
    /// Tensors of single experts, where the files have all of a block in one.
    pub(super) stacked: Stacked,
}

/// A tensor's file, and its name there.
#[derive(Clone)]
pub(super) struct Place {
    file: usize,
    pub name: String,
}

impl Place {
    fn of(name: String, file: usize) -> (String, Self) {
        (name.clone(), Self { file, name })
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Opens `<stem>.safetensors`, or the shards of `<stem>.safetensors.index.json`; in place of a directory a GGUF file.
    pub fn open(dir: &Path, stem: &str) -> Result<Self> {
        let single = if is_gguf(dir)? { dir.to_path_buf() } else { dir.join(format!("{stem}.safetensors")) };
        let index = dir.join(format!("{stem}{INDEX}"));
        let is_single = exists(&single)?;
        if !is_single && !exists(&index)? {
            return Err(no_weights(dir, stem));
        }
        if is_single {
            let file = WeightFile::open(&single)?;
            let by_name = file.names().into_iter().map(|name| Place::of(name, 0)).collect();
            return Ok(Self::new(dir, vec![file], by_name).into_plain_names(stem));
        }
        let Index { weight_map } = json_file::read(&index)?;
        let shards: BTreeSet<&String> = weight_map.values().collect();
        let mut files: Vec<WeightFile> = Vec::with_capacity(shards.len());
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
                return Err(ModelError::missing(file.path().to_path_buf(), list(&absent)));
            }
            // Tensors of the shard that are not in the index are included, so that they are refused by name.
            for name in file.names() {
                if let Some(first) =
                    by_name.get(&name).map(|place: &Place| files[place.file].path().display().to_string())
                {
                    let reason = format!("tensor `{name}` is in {first} too; expected it once");
                    return Err(ModelError::Safetensors { path: file.path().to_path_buf(), reason });
                }
                by_name.extend([Place::of(name, files.len())]);
            }
            files.push(file);
        }
        Ok(Self::new(dir, files, by_name).into_plain_names(stem))
    }

    fn new(dir: &Path, files: Vec<WeightFile>, by_name: BTreeMap<String, Place>) -> Self {
        Self { dir: dir.to_path_buf(), files, by_name, rest: BTreeMap::new(), stacked: Stacked::default() }
    }

    /// A model's weights without the names of modules that training put around it; an adapter's names are PEFT's.
    fn into_plain_names(mut self, stem: &str) -> Self {
        if stem == MODEL
            && let Some(plain) = unwrapped(self.by_name.keys())
        {
            self.by_name = plain.into_iter().zip(std::mem::take(&mut self.by_name).into_values()).collect();
        }
        self
    }

    pub(super) fn file(&self, place: &Place) -> &WeightFile {
        &self.files[place.file]
    }

    /// Takes a tensor out of the others.
    pub(super) fn take(&mut self, name: &str) -> Option<Place> {
        self.by_name.remove(name)
    }

    /// The text half of a wrapper's weights, under the names of a text model; everything else is the rest.
    pub fn into_text_half(mut self, names: TextNames) -> Self {
        let (text, rest) =
            std::mem::take(&mut self.by_name).into_iter().partition(|(name, _)| names.unwrapped(name).is_some());
        let renamed = |text: BTreeMap<String, Place>| {
            text.into_iter().filter_map(|(name, place)| Some((names.unwrapped(&name)?, place))).collect()
        };
        (self.by_name, self.rest) = (renamed(text), rest);
        self
    }

    /// Leaves out tensors by name.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.by_name.retain(|name, _| keep(name));
    }

    /// Tensors that are not of the text half, to be copied as they are.
    pub fn rest(&self) -> impl Iterator<Item = Result<(String, CopiedTensor<'_>)>> {
        self.rest.iter().map(|(name, place)| Ok((name.clone(), self.files[place.file].copied(&place.name)?)))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All tensor names, sorted, those of single experts last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str).chain(self.stacked.names())
    }

    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.stacked.contains(name)
    }

    /// The file of a tensor.
    pub fn file_of(&self, name: &str) -> Option<&WeightFile> {
        self.by_name.get(name).map(|place| &self.files[place.file]).or_else(|| self.file_of_single(name))
    }

    pub fn describe(&self, name: &str) -> Result<(Vec<usize>, WeightDtype)> {
        if let Some(described) = self.describe_single(name)? {
            return Ok(described);
        }
        let (file, stored) = self.place(name)?;
        file.describe(stored)
    }

    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<WeightDtype> {
        // The shape of a single expert's tensor is that of the layout, which that of all experts fits.
        if let Some((_, dtype)) = self.describe_single(name)? {
            return Ok(dtype);
        }
        let (file, stored) = self.place(name)?;
        file.expect(stored, shape)
    }

    /// The values in float32, row-major, if the tensor has that shape; four-bit weights are dequantised.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        if let Some(packed) = self.read_four_bit(name, shape)? {
            return Ok(packed.dequantise());
        }
        self.expect(name, shape)?;
        self.read_part(name, 0..shape.iter().product())
    }

    /// A range of the values in float32, row-major, within a tensor that is not in four bits.
    pub fn read_part(&self, name: &str, part: Range<usize>) -> Result<Vec<f32>> {
        if let Some(values) = self.read_single(name, part.clone())? {
            return Ok(values);
        }
        let (file, stored) = self.place(name)?;
        file.read_part(stored, part)
    }

    /// dtype that holds the values exactly: float32 for a GGUF file's blocks.
    pub fn exact_dtype(&self, name: &str) -> Result<WeightDtype> {
        if let Some((_, dtype)) = self.describe_single(name)? {
            return Ok(dtype);
        }
        let (file, stored) = self.place(name)?;
        file.exact_dtype(stored)
    }

    /// True for a weight that is stored in packed blocks.
    pub fn is_packed(&self, name: &str) -> bool {
        let gguf = self.by_name.get(name).and_then(|place| self.files[place.file].gguf());
        let in_gguf = gguf.and_then(|weights| weights.describe(name)).is_some_and(|(_, kind)| kind.is_quantised());
        in_gguf || self.is_mxfp4(name) || self.four_bit_state(name).is_some()
    }

    /// The blocks of a GGUF file, or of an expert in MXFP4, checked to be finite; `None` for any other weight.
    pub fn read_blocks(&self, name: &str, shape: &[usize]) -> Result<Option<PackedWeight>> {
        if self.stacked.contains(name) {
            return self.read_mxfp4(name);
        }
        let (file, stored) = self.place(name)?;
        let Some(weights) = file.gguf() else { return Ok(None) };
        file.expect(stored, shape)?;
        let Some(weight) = weights.blocks(stored)?.and_then(Blocks::pack) else { return Ok(None) };
        file.check_values(stored, &weight)?;
        Ok(Some(weight))
    }

    /// Reads every value of the tensors, but for a wrapper's rest, and refuses a NaN or infinity.
    pub fn check_values(&self) -> Result<()> {
        const PIECE: usize = 1 << 20;
        // the codes of four-bit weights are numbers whatever their bytes
        let is_code = |name: &str| self.four_bit_state(name).is_some() || self.is_four_bit_part(name);
        for (_, place) in self.by_name.iter().filter(|(name, _)| !is_code(name)) {
            let file = &self.files[place.file];
            let count = file.describe(&place.name)?.0.iter().product();
            for start in (0..count).step_by(PIECE) {
                file.read_part(&place.name, start..count.min(start + PIECE))?;
            }
        }
        self.check_single_values()
    }

    /// The file of a tensor, where it may have another name.
    pub fn owner(&self, name: &str) -> Result<&WeightFile> {
        if let Some(file) = self.file_of_single(name) {
            return Ok(file);
        }
        Ok(self.place(name)?.0)
    }

    /// The file of a tensor, and its name there.
    pub fn place(&self, name: &str) -> Result<(&WeightFile, &str)> {
        match self.by_name.get(name) {
            Some(place) => Ok((&self.files[place.file], &place.name)),
            None => Err(ModelError::missing(self.dir.clone(), format!("`{name}`"))),
        }
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
