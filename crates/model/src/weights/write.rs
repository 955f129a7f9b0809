//! Writing safetensors, one tensor in memory at a time.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use safetensors::{Dtype, View};
use smpo_files::FileError;
use smpo_kernels::PackedWeight;

use super::file::data_bytes;
use super::write_checked::Checked;
use super::{CopiedTensor, OutputValues, Stacked, WeightDtype};
use crate::error::{ModelError, Result};
use crate::placement::host_values;
use crate::shards::Shards;

/// A tensor to be written in some dtype; converted while it is written.
pub(crate) struct StoredTensor {
    shape: Vec<usize>,
    values: Values,
    dtype: WeightDtype,
    /// The block that has it, in parts in several processes.
    block: Option<(Arc<Shards>, usize)>,
}

enum Values {
    Tensor(Tensor),
    Packed(PackedWeight),
}

impl StoredTensor {
    pub fn new(tensor: &Tensor, dtype: WeightDtype) -> Result<Self> {
        let values = Values::Tensor(tensor.detach().flatten_all()?);
        Ok(Self { shape: tensor.dims().to_vec(), values, dtype, block: None })
    }

    /// A tensor of a block that is gathered when the tensor is written.
    pub fn gathered(self, block: Option<(Arc<Shards>, usize)>) -> Self {
        Self { block, ..self }
    }

    /// Packed blocks, to be written dequantised.
    pub fn packed(weight: &PackedWeight, dtype: WeightDtype) -> Self {
        let (rows, columns) = weight.shape();
        Self { shape: vec![rows, columns], values: Values::Packed(weight.clone()), dtype, block: None }
    }
}

impl OutputValues for StoredTensor {
    fn output_dtype(&self) -> WeightDtype {
        self.dtype
    }

    fn values(&self) -> Vec<f32> {
        if self.block.as_ref().is_some_and(|(shards, block)| shards.fetch(*block).is_err()) {
            return Vec::new();
        }
        match &self.values {
            Values::Tensor(tensor) => host_values(tensor).unwrap_or_default(),
            Values::Packed(packed) => packed.dequantise(),
        }
    }
}

impl View for StoredTensor {
    fn dtype(&self) -> Dtype {
        self.dtype.safetensors()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        self.dtype.encode(&self.values(), &mut bytes);
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}

/// A tensor of a directory being written.
pub(crate) enum OutputTensor<'a> {
    /// From memory.
    Stored(Stacked<StoredTensor>),
    /// From another file, unchanged.
    Copied(CopiedTensor<'a>),
}

impl OutputTensor<'_> {
    fn view(&self) -> &dyn View {
        match self {
            Self::Stored(tensor) => tensor,
            Self::Copied(tensor) => tensor,
        }
    }
}

impl View for OutputTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.view().dtype()
    }

    fn shape(&self) -> &[usize] {
        self.view().shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.view().data()
    }

    fn data_len(&self) -> usize {
        self.view().data_len()
    }
}

/// Writes the tensors, sorted as safetensors requires.
pub(crate) fn write_tensors<V: View>(path: &Path, tensors: Vec<(String, V)>) -> Result<()> {
    // transformers refuses a file that does not say which framework's layout it has. One entry and no more: several
    // would be written in any order, and equal models as different files.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let expected: usize = tensors.iter().map(|(_, tensor)| tensor.data_len()).sum();
    let beyond = RefCell::new(None);
    let checked = tensors.into_iter().map(|(name, tensor)| {
        let tensor = Checked::new(&name, tensor, &beyond);
        (name, tensor)
    });
    safetensors::serialize_to_file(checked, Some(metadata), path)
        .map_err(|error| FileError::at(path, "write")(std::io::Error::other(error)))?;
    if let Some((tensor, index)) = beyond.take() {
        return Err(ModelError::BeyondDtype { path: path.to_path_buf(), tensor, index });
    }
    // A tensor that could not be produced was written short; such a file must not be kept.
    let written = data_bytes(path)?;
    if written != expected {
        return Err(ModelError::Safetensors {
            path: path.to_path_buf(),
            reason: format!("expected {expected} bytes of data to be written, got {written}"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn values_that_float16_does_not_have_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let write = |values: &[f32], dtype| {
            let tensor = Tensor::new(values, &Device::Cpu).unwrap();
            write_tensors(&path, vec![("w".to_owned(), StoredTensor::new(&tensor, dtype).unwrap())])
        };
        write(&[1.0, 65504.0], WeightDtype::F16).unwrap();
        write(&[1.0, 7e4], WeightDtype::Bf16).unwrap();
        let error = write(&[1.0, 7e4], WeightDtype::F16).unwrap_err().to_string();
        assert!(
            error.contains("tensor `w`: expected values that float16 has, got one beyond 65504 at index 1"),
            "{error}"
        );
    }
}
