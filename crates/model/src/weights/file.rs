//! One file of weights, validated before it is used, and read piece by piece.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use smpo_files::FileError;
use smpo_kernels::PackedWeight;

use super::WeightDtype;
use super::absent::no_weights;
use crate::error::{ModelError, Result};
use crate::gguf::{GgufWeights, is_gguf, saved_dtype};

/// A file of weights whose header has been read.
pub(crate) struct WeightFile {
    path: PathBuf,
    tensors: Tensors,
}

/// Tensors of a file, by its format.
enum Tensors {
    Safetensors(SafetensorsFile),
    Gguf(GgufWeights),
}

/// A safetensors file.
struct SafetensorsFile {
    file: Mutex<File>,
    header: Metadata,
    /// Offset of the data in the file, in bytes.
    data: u64,
}

/// Size of the header's length field, at the start of the file, in bytes.
const PREFIX: u64 = 8;

/// Maximum length of a header, in bytes, as in the reference implementation.
const LONGEST_HEADER: u64 = 100_000_000;

/// Bytes read at once: the memory of reading besides the values.
const PIECE: usize = 1 << 20;

/// Another kind of document that often lies in the place of weights, told by its first bytes.
fn other_kind(start: &[u8]) -> Option<&'static str> {
    match start {
        b"version " => Some(smpo_files::LFS_POINTER),
        [b'<', ..] => Some("it is a page of HTML or XML; download the file again, logged in where that is needed"),
        b"\x89HDF\r\n\x1a\n" => Some("it is an HDF5 file; save the model as safetensors"),
        [b'P', b'K', 3, 4, ..] | [0x80, 2, ..] => Some("it is a PyTorch file; save the model as safetensors"),
        [b'G', b'G', b'U', b'F', ..] => Some("it is a GGUF file; give it its own name, ending in .gguf"),
        _ => None,
    }
}

impl WeightFile {
    /// Opens a safetensors file, or a model in GGUF.
    pub fn open(path: &Path) -> Result<Self> {
        let tensors = match is_gguf(path)? {
            true => Tensors::Gguf(GgufWeights::open(path)?),
            false => Tensors::Safetensors(SafetensorsFile::open(path)?),
        };
        Ok(Self { path: path.to_path_buf(), tensors })
    }

    /// The only weight file of a directory, by its name without `.safetensors`.
    pub fn in_directory(dir: &Path, stem: &str) -> Result<Self> {
        let path = dir.join(format!("{stem}.safetensors"));
        if smpo_files::exists(&path)? { Self::open(&path) } else { Err(no_weights(dir, stem)) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name under which its tensors are saved: its own, or that of the only file where it is a model in GGUF.
    pub fn saved_name(&self) -> String {
        match &self.tensors {
            Tensors::Safetensors(_) => self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Tensors::Gguf(_) => "model.safetensors".to_owned(),
        }
    }

    /// The weights where it is a model in GGUF.
    pub fn gguf(&self) -> Option<&GgufWeights> {
        match &self.tensors {
            Tensors::Safetensors(_) => None,
            Tensors::Gguf(weights) => Some(weights),
        }
    }

    pub fn names(&self) -> Vec<String> {
        match &self.tensors {
            Tensors::Safetensors(file) => file.header.offset_keys(),
            Tensors::Gguf(weights) => weights.names().map(String::from).collect(),
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        match &self.tensors {
            Tensors::Safetensors(file) => file.header.info(name).is_some(),
            Tensors::Gguf(weights) => weights.contains(name),
        }
    }

    /// Shape and dtype; a dtype not supported for weights is refused.
    pub fn describe(&self, name: &str) -> Result<(Vec<usize>, WeightDtype)> {
        match &self.tensors {
            Tensors::Safetensors(file) => {
                file.locate(&self.path, name).map(|tensor| (tensor.shape.to_vec(), tensor.dtype))
            }
            Tensors::Gguf(weights) => {
                let (shape, kind) = weights.describe(name).ok_or_else(|| missing(&self.path, name))?;
                Ok((shape.to_vec(), saved_dtype(kind)))
            }
        }
    }

    /// dtype that holds the values exactly: float32 for a GGUF file's blocks.
    pub fn exact_dtype(&self, name: &str) -> Result<WeightDtype> {
        match &self.tensors {
            Tensors::Gguf(weights) if weights.describe(name).is_some_and(|(_, kind)| kind.is_quantised()) => {
                Ok(WeightDtype::F32)
            }
            _ => Ok(self.describe(name)?.1),
        }
    }

    /// dtype, if the tensor has that shape.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<WeightDtype> {
        let (got, dtype) = self.describe(name)?;
        self.expect_shape(name, shape, &got)?;
        Ok(dtype)
    }

    fn expect_shape(&self, name: &str, shape: &[usize], got: &[usize]) -> Result<()> {
        if got == shape {
            return Ok(());
        }
        Err(ModelError::Shape {
            path: self.path.clone(),
            tensor: name.to_string(),
            expected: shape.to_vec(),
            got: got.to_vec(),
        })
    }

    /// The values in float32, row-major, if the tensor has that shape.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.expect(name, shape)?;
        self.read_part(name, 0..shape.iter().product())
    }

    /// A range of the values in float32, row-major, within the tensor; a NaN or infinity among them is refused.
    pub fn read_part(&self, name: &str, part: Range<usize>) -> Result<Vec<f32>> {
        match &self.tensors {
            Tensors::Safetensors(file) => file.read_part(&self.path, name, part),
            Tensors::Gguf(weights) => {
                let begin = part.start;
                let values = weights.read_part(name, part)?;
                expect_finite(&self.path, name, &values, begin)?;
                Ok(values)
            }
        }
    }

    /// Refuses a NaN or infinity among the values of packed blocks.
    pub fn check_values(&self, name: &str, weight: &PackedWeight) -> Result<()> {
        const VALUES: usize = 1 << 16;
        let (rows, columns) = weight.shape();
        let mut piece = vec![0.0; VALUES.min(rows * columns)];
        for begin in (0..rows * columns).step_by(VALUES) {
            let piece = &mut piece[..VALUES.min(rows * columns - begin)];
            weight.read(begin, piece);
            expect_finite(&self.path, name, piece, begin)?;
        }
        Ok(())
    }

    /// The bytes of a tensor of any dtype of a safetensors file.
    pub fn raw(&self, name: &str) -> Result<Vec<u8>> {
        match &self.tensors {
            Tensors::Safetensors(file) => file.raw(&self.path, name, None),
            Tensors::Gguf(_) => Err(missing(&self.path, name)),
        }
    }

    /// Range of a tensor's bytes in the data of a safetensors file.
    pub(super) fn raw_range(&self, name: &str) -> Result<Range<usize>> {
        match &self.tensors {
            Tensors::Safetensors(file) => file.raw_range(&self.path, name),
            Tensors::Gguf(_) => Err(missing(&self.path, name)),
        }
    }

    /// A range of the bytes of a tensor of any dtype of a safetensors file.
    pub(super) fn raw_part(&self, name: &str, part: Range<usize>) -> Result<Vec<u8>> {
        match &self.tensors {
            Tensors::Safetensors(file) => file.raw(&self.path, name, Some(part)),
            Tensors::Gguf(_) => Err(missing(&self.path, name)),
        }
    }

    /// Refuses a tensor that is not of bytes and of that shape.
    pub(super) fn expect_bytes(&self, name: &str, shape: &[usize]) -> Result<()> {
        let Tensors::Safetensors(file) = &self.tensors else { return Err(missing(&self.path, name)) };
        let info = file.header.info(name).ok_or_else(|| missing(&self.path, name))?;
        if info.dtype != Dtype::U8 {
            return Err(ModelError::Safetensors {
                path: self.path.clone(),
                reason: format!("`{name}`: expected U8, got {:?}", info.dtype),
            });
        }
        self.expect_shape(name, shape, &info.shape)
    }

    /// Refuses a NaN or infinity among the values of a tensor from index `begin` on.
    pub(super) fn check_finite(&self, name: &str, values: &[f32], begin: usize) -> Result<()> {
        expect_finite(&self.path, name, values, begin)
    }

    /// A tensor of any dtype, to be copied as it is.
    pub fn copied(&self, name: &str) -> Result<CopiedTensor<'_>> {
        let Tensors::Safetensors(file) = &self.tensors else { return Err(missing(&self.path, name)) };
        let info = file.header.info(name).ok_or_else(|| missing(&self.path, name))?;
        let (begin, end) = info.data_offsets;
        Ok(CopiedTensor { file, dtype: info.dtype, shape: info.shape.clone(), bytes: begin..end })
    }
}

/// Refuses a NaN or infinity among the values of a tensor from index `begin` on.
fn expect_finite(path: &Path, name: &str, values: &[f32], begin: usize) -> Result<()> {
    match first_not_finite(values) {
        None => Ok(()),
        Some(at) => Err(ModelError::NotFinite {
            path: path.to_path_buf(),
            tensor: name.to_string(),
            value: values[at],
            index: begin + at,
        }),
    }
}

/// Size of the data of a safetensors file after its header, in bytes.
pub(super) fn data_bytes(path: &Path) -> Result<usize> {
    Ok(SafetensorsFile::open(path)?.header.data_len())
}

fn missing(path: &Path, name: &str) -> ModelError {
    ModelError::missing(path.to_path_buf(), format!("`{name}`"))
}

impl SafetensorsFile {
    fn open(path: &Path) -> Result<Self> {
        let damaged = |reason: String| ModelError::Safetensors { path: path.to_path_buf(), reason };
        // opening a pipe would wait for its writer
        if smpo_files::exists(path)? && !smpo_files::is_file(path)? {
            return Err(damaged("expected a regular file, got a pipe, a device or a directory".into()));
        }
        let mut file = File::open(path).map_err(FileError::at(path, "open"))?;
        let length = file.metadata().map_err(FileError::at(path, "read"))?.len();
        if length < PREFIX {
            return Err(damaged(format!("expected at least 8 bytes, got {length}; the file is truncated or empty")));
        }
        let mut start = vec![0; PREFIX as usize];
        file.read_exact(&mut start).map_err(FileError::at(path, "read"))?;
        let header_length = start.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        // A header of 640 bytes begins like a pickle: only a length that cannot be right is another kind's first bytes.
        if header_length > (length - PREFIX).min(LONGEST_HEADER)
            && let Some(kind) = other_kind(&start)
        {
            return Err(damaged(kind.into()));
        }
        if header_length > length - PREFIX {
            return Err(damaged(format!(
                "its header is said to take {header_length} bytes, but {} follow; truncated, or no safetensors file",
                length - PREFIX
            )));
        }
        if header_length > LONGEST_HEADER {
            return Err(damaged(format!("expected a header of at most {LONGEST_HEADER} bytes, got {header_length}")));
        }
        file.by_ref().take(header_length).read_to_end(&mut start).map_err(FileError::at(path, "read"))?;
        // On the header alone this checks everything except that the data is complete, which is next.
        match SafeTensors::read_metadata(&start) {
            Ok(_) | Err(SafeTensorError::MetadataIncompleteBuffer) => {}
            Err(error) => return Err(damaged(error.to_string())),
        }
        let header: Metadata =
            serde_json::from_slice(&start[PREFIX as usize..]).map_err(|error| damaged(error.to_string()))?;
        let data = PREFIX + header_length;
        if header.data_len() as u64 != length - data {
            return Err(damaged(format!(
                "its header promises {} bytes of data, but {} follow; truncated?",
                header.data_len(),
                length - data
            )));
        }
        Ok(Self { file: Mutex::new(file), header, data })
    }

    fn read_part(&self, path: &Path, name: &str, part: Range<usize>) -> Result<Vec<f32>> {
        let Located { dtype, begin, .. } = self.locate(path, name)?;
        let mut values = Vec::with_capacity(part.len());
        let mut left = part.len() * dtype.bytes();
        let mut piece = vec![0; left.min(PIECE)];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = self.data + (begin + part.start * dtype.bytes()) as u64;
        file.seek(SeekFrom::Start(begin)).map_err(FileError::at(path, "read"))?;
        while left > 0 {
            piece.truncate(left);
            file.read_exact(&mut piece).map_err(FileError::at(path, "read"))?;
            let before = values.len();
            dtype.decode(&piece, &mut values);
            left -= piece.len();
            expect_finite(path, name, &values[before..], part.start + before)?;
        }
        Ok(values)
    }

    /// Range of a tensor's bytes in the data, within the file.
    fn raw_range(&self, path: &Path, name: &str) -> Result<Range<usize>> {
        let info = self.header.info(name).ok_or_else(|| missing(path, name))?;
        Ok(info.data_offsets.0..info.data_offsets.1)
    }

    /// The bytes of a tensor, or `part` of them, within it.
    fn raw(&self, path: &Path, name: &str, part: Option<Range<usize>>) -> Result<Vec<u8>> {
        let whole = self.raw_range(path, name)?;
        let range = part.map_or(whole.clone(), |part| whole.start + part.start..whole.start + part.end);
        let mut bytes = vec![0; range.len()];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.data + range.start as u64)).map_err(FileError::at(path, "read"))?;
        file.read_exact(&mut bytes).map_err(FileError::at(path, "read"))?;
        Ok(bytes)
    }

    fn locate(&self, path: &Path, name: &str) -> Result<Located<'_>> {
        let info = self.header.info(name).ok_or_else(|| missing(path, name))?;
        let dtype = WeightDtype::from_safetensors(info.dtype).ok_or_else(|| ModelError::Dtype {
            path: path.to_path_buf(),
            tensor: name.to_string(),
            got: format!("{:?}", info.dtype),
        })?;
        Ok(Located { shape: &info.shape, dtype, begin: info.data_offsets.0 })
    }
}

/// Index of the first NaN or infinity.
fn first_not_finite(values: &[f32]) -> Option<usize> {
    // Without a branch per value: whole weights go through here.
    let largest = values.iter().fold(0, |largest, value| value.abs().to_bits().max(largest));
    if largest < f32::INFINITY.to_bits() { None } else { values.iter().position(|value| !value.is_finite()) }
}

/// A tensor as its file has it, read while it is written.
pub(crate) struct CopiedTensor<'a> {
    file: &'a SafetensorsFile,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Its bytes in the data.
    bytes: Range<usize>,
}

impl CopiedTensor<'_> {
    fn read(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes.len()];
        let mut file = self.file.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.file.data + self.bytes.start as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl View for CopiedTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // The trait is infallible: what cannot be read is written short, which the writer detects.
        Cow::Owned(self.read().unwrap_or_default())
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A tensor in the file.
struct Located<'a> {
    shape: &'a [usize],
    dtype: WeightDtype,
    /// Offset of its bytes in the data.
    begin: usize,
}
