//! One memory-mapped safetensors file, checked before anything in it is believed.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;

use super::Element;
use crate::error::{ModelError, Result};

/// A safetensors file whose header has been read.
pub(crate) struct WeightFile {
    path: PathBuf,
    map: Mmap,
    header: Metadata,
    /// Where the data begins.
    data: usize,
}

impl WeightFile {
    pub fn open(path: &Path) -> Result<Self> {
        let damaged = |reason: String| ModelError::Safetensors { path: path.to_path_buf(), reason };
        let file = File::open(path).map_err(ModelError::io(path))?;
        let length = file.metadata().map_err(ModelError::io(path))?.len();
        if length < 8 {
            return Err(damaged(format!("expected at least 8 bytes, got {length}; the file is truncated or empty")));
        }
        // SAFETY: the map is only read. As with every mapped file, another process that shortens it while it is
        // being read takes this one down; weight files are not written in place.
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(path))?;
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&map[..8]);
        let header_length = u64::from_le_bytes(prefix);
        if header_length > length - 8 {
            return Err(damaged(format!(
                "its header is said to take {header_length} bytes, but {} follow; truncated, or no safetensors file",
                length - 8
            )));
        }
        let (header_length, header) = SafeTensors::read_metadata(&map).map_err(|e| {
            let hint = match e {
                safetensors::SafeTensorError::MetadataIncompleteBuffer => {
                    "; the data is shorter or longer than its header says: truncated?"
                }
                _ => "",
            };
            damaged(format!("{e}{hint}"))
        })?;
        Ok(Self { path: path.to_path_buf(), map, header, data: header_length + 8 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes behind the header.
    pub fn data_bytes(&self) -> usize {
        self.map.len() - self.data
    }

    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// A value of the header's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// Shape and element type; an element type that is no weight's is refused.
    pub fn describe(&self, name: &str) -> Result<(Vec<usize>, Element)> {
        let info = self
            .header
            .info(name)
            .ok_or_else(|| ModelError::MissingTensors { path: self.path.clone(), names: format!("`{name}`") })?;
        let element = Element::from_dtype(info.dtype).ok_or_else(|| ModelError::Dtype {
            path: self.path.clone(),
            tensor: name.to_string(),
            got: format!("{:?}", info.dtype),
        })?;
        Ok((info.shape.clone(), element))
    }

    /// The element type, if the tensor has that shape.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<Element> {
        let (got, element) = self.describe(name)?;
        if got != shape {
            return Err(ModelError::Shape {
                path: self.path.clone(),
                tensor: name.to_string(),
                expected: shape.to_vec(),
                got,
            });
        }
        Ok(element)
    }

    /// The values in float32, row-major, if the tensor has that shape.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        Ok(self.expect(name, shape)?.decode(self.bytes(name)))
    }

    fn bytes(&self, name: &str) -> &[u8] {
        // `read_metadata` has checked that all offsets lie within the file.
        match self.header.info(name) {
            Some(info) => {
                let (start, end) = info.data_offsets;
                &self.map[self.data + start..self.data + end]
            }
            None => &[],
        }
    }
}
