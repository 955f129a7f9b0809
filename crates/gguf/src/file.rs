//! A model in GGUF: one file or several parts of one.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::blocks;
use crate::error::{GgufError, Result};
use crate::part::{Entry, Part};
use crate::{GgmlType, Metadata, split};

/// Bytes read at once while values are dequantised.
const PIECE: usize = 1 << 20;

/// True for a file that is GGUF by its ending or its first bytes (Ollama's blobs have no ending).
///
/// # Errors
/// When it cannot be told: the path cannot be looked at, or the file cannot be read.
pub fn is_gguf(path: &Path) -> Result<bool> {
    use ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Ok(false),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | InvalidInput | InvalidFilename) => {
            return Ok(false);
        }
        Err(error) => return Err(GgufError::io(path, "look at")(error)),
    }
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) {
        return Ok(true);
    }
    let mut magic = [0; 4];
    match File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) => Ok(&magic == b"GGUF"),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(GgufError::io(path, "read")(error)),
    }
}

/// A model in GGUF. Its header is in memory; tensors are read from the file.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    parts: Vec<Part>,
}

impl GgufFile {
    /// Opens a file, with all other parts where it is one part of a split model.
    ///
    /// # Errors
    /// When a part is missing, or a header is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let parts = split::open(path)?;
        for (number, part) in parts.iter().enumerate() {
            if let Some(name) =
                part.tensors.keys().find(|name| parts[..number].iter().any(|p| p.tensors.contains_key(*name)))
            {
                return Err(GgufError::field(
                    part.path(),
                    name.as_str(),
                    "one tensor of this name",
                    "one in two parts",
                ));
            }
        }
        Ok(Self { path: path.to_path_buf(), parts })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All files of the model of which `path` is one.
    pub fn files(path: &Path) -> Vec<PathBuf> {
        split::names(path)
    }

    /// Number of files.
    pub fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// Metadata; that of the first part.
    pub fn metadata(&self) -> &Metadata {
        &self.parts[0].metadata
    }

    /// `general.architecture`, the name of the model family in llama.cpp.
    ///
    /// # Errors
    /// When there is none.
    pub fn architecture(&self) -> Result<&str> {
        const KEY: &str = "general.architecture";
        self.metadata().text(KEY)?.ok_or_else(|| self.metadata().missing(KEY, "the name of a model family"))
    }

    /// All tensors, part by part and sorted by name in each.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.parts.iter().flat_map(|part| part.tensors.iter().map(move |(name, entry)| Tensor { part, name, entry }))
    }

    /// A tensor by its name in the file.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.parts
            .iter()
            .find_map(|part| part.tensors.get_key_value(name).map(|(name, entry)| Tensor { part, name, entry }))
    }
}

/// A tensor in the file.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    part: &'a Part,
    name: &'a str,
    entry: &'a Entry,
}

impl<'a> Tensor<'a> {
    /// Name in the file.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// File that holds it.
    pub fn path(&self) -> &'a Path {
        self.part.path()
    }

    /// Type of its data.
    pub fn ggml_type(&self) -> GgmlType {
        self.entry.kind
    }

    /// Shape, rows first: a linear layer's weight is (out, in). Blocks lie along the last dimension.
    pub fn shape(&self) -> &'a [usize] {
        &self.entry.shape
    }

    /// Number of values.
    pub fn values(&self) -> usize {
        self.entry.shape.iter().product()
    }

    /// Number of rows: of vectors along the last dimension.
    pub fn rows(&self) -> usize {
        self.values() / self.row_values()
    }

    /// Values of a row.
    pub fn row_values(&self) -> usize {
        self.entry.row_values()
    }

    /// Bytes of a row, whole blocks.
    pub fn row_bytes(&self) -> usize {
        self.entry.row_bytes()
    }

    /// Bytes of all its data.
    pub fn byte_count(&self) -> usize {
        self.entry.bytes as usize
    }

    /// All its blocks as they are stored.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        self.bytes_of_rows(0..self.rows())
    }

    /// Blocks of some rows as they are stored; rows beyond the last are left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn bytes_of_rows(&self, rows: Range<usize>) -> Result<Vec<u8>> {
        let rows = rows.start.min(self.rows())..rows.end.min(self.rows());
        let mut bytes = vec![0; rows.len() * self.row_bytes()];
        self.part.read(self.entry.begin + (rows.start * self.row_bytes()) as u64, &mut bytes)?;
        Ok(bytes)
    }

    /// All values in float32, row-major.
    ///
    /// # Errors
    /// When the file cannot be read, or blocks of this type are not dequantised here.
    pub fn dequantise(&self) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.values());
        self.dequantise_rows(0..self.rows(), &mut values)?;
        Ok(values)
    }

    /// Appends the values of some rows; rows beyond the last are left out.
    ///
    /// # Errors
    /// As [`Tensor::dequantise`].
    pub fn dequantise_rows(&self, rows: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        self.check_type()?;
        let end = rows.end.min(self.rows());
        let step = (PIECE / self.row_bytes().max(1)).max(1);
        for start in (rows.start..end).step_by(step) {
            let bytes = self.bytes_of_rows(start..end.min(start + step))?;
            // The type was checked.
            let _ = blocks::dequantise(self.entry.kind, &bytes, values);
        }
        Ok(())
    }

    /// Refuses a type that is not dequantised here.
    ///
    /// # Errors
    /// When it is none.
    pub fn check_type(&self) -> Result<()> {
        if self.entry.kind.is_dequantised() {
            return Ok(());
        }
        Err(GgufError::unsupported(
            self.path(),
            format!(
                "tensor `{}` is stored as {}, which is not read; read are {}: give another quantisation of the model",
                self.name,
                self.entry.kind.name(),
                GgmlType::dequantised_names()
            ),
        ))
    }
}
