//! One file: its header checked whole, and ranges of its tensors read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::GgmlType;
use crate::error::{GgufError, Result};
use crate::header::Header;
use crate::metadata::Metadata;

/// Keys and tensors of a file at most: far more than any model has. What is kept of each is larger than what the file
/// needs to claim it.
const MOST_KEYS: u64 = 4096;
const MOST_TENSORS: u64 = 16_384;

/// Bytes of a name at most, as in the format's description.
const LONGEST_KEY: u64 = 65_535;
const LONGEST_NAME: u64 = 256;

/// Dimensions of a tensor at most.
const MOST_DIMENSIONS: u32 = 4;

/// A tensor's entry in the header.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Rows first, as Hugging Face orders them; the file has them reversed.
    pub shape: Vec<usize>,
    pub kind: GgmlType,
    /// Offset of its data in the file.
    pub begin: u64,
    pub bytes: u64,
}

impl Entry {
    /// Values of a row: of the last dimension, along which blocks lie.
    pub fn row_values(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    pub fn row_bytes(&self) -> usize {
        self.row_values() / self.kind.block_values() * self.kind.block_bytes()
    }
}

/// One file of a model.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    file: Mutex<File>,
    pub metadata: Metadata,
    pub tensors: BTreeMap<String, Entry>,
}

impl Part {
    pub fn open(path: &Path) -> Result<Self> {
        let mut header = Header::open(path)?;
        check_magic(path, &mut header)?;
        let tensors = count(&mut header, "tensor count", MOST_TENSORS, 24)?;
        let keys = count(&mut header, "metadata count", MOST_KEYS, 13)?;
        let mut values = BTreeMap::new();
        for index in 0..keys {
            let key = header.text(&format!("key {index} of the metadata"), LONGEST_KEY)?;
            let value = header.value(&key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(header.error(&key, "one value", "the key twice"));
            }
        }
        let metadata = Metadata::new(path, values);
        let mut entries = Vec::with_capacity(tensors as usize);
        for index in 0..tensors {
            entries.push(entry(&mut header, index)?);
        }
        let tensors = place(path, &header, alignment(&metadata)?, entries)?;
        Ok(Self { path: path.to_path_buf(), file: Mutex::new(header.into_file()?), metadata, tensors })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file from `begin` on, into all of `bytes`.
    pub fn read(&self, begin: u64, bytes: &mut [u8]) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file.seek(SeekFrom::Start(begin)).and_then(|_| file.read_exact(bytes));
        read.map_err(GgufError::io(&self.path, "read"))
    }
}

fn check_magic(path: &Path, header: &mut Header) -> Result<()> {
    let magic: [u8; 4] = header.array("magic number")?;
    if &magic != b"GGUF" {
        let got = match &magic {
            b"vers" => "a Git LFS pointer; fetch the file itself (git lfs pull, or hf download)".to_string(),
            [b'<', ..] => "a page of HTML or XML; download the file again".to_string(),
            other => format!("{:?}", String::from_utf8_lossy(other)),
        };
        return Err(header.error("magic number", "\"GGUF\"", got));
    }
    match header.u32("version")? {
        2 | 3 => Ok(()),
        1 => Err(GgufError::unsupported(path, "GGUF version 1 is not read; convert the model again (2 and 3 are)")),
        big if big.swap_bytes() <= 3 => {
            Err(GgufError::unsupported(path, "a big-endian GGUF file is not read; convert it to little-endian"))
        }
        other => Err(header.error("version", "2 or 3", other)),
    }
}

/// A number of elements that is not larger than `most`, nor than there is room for.
fn count(header: &mut Header, field: &str, most: u64, smallest: u64) -> Result<u64> {
    let count = header.u64(field)?;
    if count > most {
        return Err(header.error(field, format!("at most {most}"), count));
    }
    header.expect_room(field, count, smallest)?;
    Ok(count)
}

/// A tensor's entry with its offset in the data section.
fn entry(header: &mut Header, index: u64) -> Result<(String, Entry)> {
    let name = header.text(&format!("name of tensor {index}"), LONGEST_NAME)?;
    let dimensions = header.u32(&name)?;
    if dimensions == 0 || dimensions > MOST_DIMENSIONS {
        return Err(header.error(&name, "1 to 4 dimensions", dimensions));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    let mut values: u64 = 1;
    for _ in 0..dimensions {
        let size = header.u64(&name)?;
        // Signed sizes of other readers, and of the products below.
        values = size.checked_mul(values).filter(|values| size > 0 && *values < 1 << 48).ok_or_else(|| {
            header.error(&name, "sizes above zero with a product below 2^48", format!("a size of {size}"))
        })?;
        shape.push(size as usize);
    }
    shape.reverse();
    let number = header.u32(&name)?;
    let kind = GgmlType::of_number(number)
        .ok_or_else(|| header.error(&name, "a tensor type of ggml", format!("number {number}")))?;
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(kind.block_values()) {
        let expected = format!("rows of whole {} blocks of {} values", kind.name(), kind.block_values());
        return Err(header.error(&name, expected, format!("rows of {row} values")));
    }
    let bytes = values / kind.block_values() as u64 * kind.block_bytes() as u64;
    let begin = header.u64(&name)?;
    Ok((name, Entry { shape, kind, begin, bytes }))
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    const KEY: &str = "general.alignment";
    let alignment = metadata.whole(KEY)?.unwrap_or(32);
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        return Err(metadata.error(KEY, "a power of two of at most 2^20", alignment));
    }
    Ok(alignment)
}

/// The tensors by name, at their places in the file: inside it, apart from each other.
fn place(
    path: &Path,
    header: &Header,
    alignment: u64,
    entries: Vec<(String, Entry)>,
) -> Result<BTreeMap<String, Entry>> {
    let data = header.at().next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for (name, mut entry) in entries {
        if !entry.begin.is_multiple_of(alignment) {
            return Err(header.error(&name, format!("an offset that is a multiple of {alignment}"), entry.begin));
        }
        let begin = data.checked_add(entry.begin);
        let end = begin.and_then(|begin| begin.checked_add(entry.bytes));
        let (Some(begin), Some(_)) = (begin, end.filter(|end| *end <= header.length())) else {
            let expected = format!("data within the file's {} bytes; is it truncated?", header.length());
            return Err(header.error(&name, expected, format!("{} bytes at offset {}", entry.bytes, entry.begin)));
        };
        entry.begin = begin;
        if tensors.insert(name.clone(), entry).is_some() {
            return Err(header.error(&name, "one tensor of this name", "two"));
        }
    }
    let mut in_order: Vec<(&String, &Entry)> = tensors.iter().collect();
    in_order.sort_by_key(|(_, entry)| entry.begin);
    for pair in in_order.windows(2) {
        let [(before, first), (name, second)] = pair else { continue };
        if first.begin + first.bytes > second.begin {
            return Err(GgufError::field(path, name.as_str(), "data of its own", format!("bytes of `{before}`")));
        }
    }
    Ok(tensors)
}
