//! The types of the tensors in a GGUF file, from its header.

use std::fs::File;
use std::io::{BufReader, Read, Result};
use std::path::Path;

/// Numbers of the types that are not quantised: f32, f16, f64, bf16.
const FLOATS: [u32; 4] = [0, 1, 28, 30];
/// Elements of a list and bytes of a text at most; beyond, the file is damaged.
const LONGEST: u64 = 1 << 32;

/// True if some tensor is quantised; false also where the header cannot be read, which loading then reports.
pub(super) fn is_quantised(path: &Path) -> bool {
    types(path).is_ok_and(|types| types.iter().any(|kind| !FLOATS.contains(kind)))
}

fn types(path: &Path) -> Result<Vec<u32>> {
    let mut file = BufReader::new(File::open(path)?);
    skip(&mut file, 8)?;
    let (tensors, entries) = (u64_of(&mut file)?, u64_of(&mut file)?);
    for _ in 0..entries {
        text(&mut file)?;
        let kind = u32_of(&mut file)?;
        value(&mut file, kind)?;
    }
    let mut types = Vec::new();
    for _ in 0..tensors {
        text(&mut file)?;
        let dimensions = u32_of(&mut file)?;
        skip(&mut file, u64::from(dimensions) * 8)?;
        types.push(u32_of(&mut file)?);
        skip(&mut file, 8)?;
    }
    Ok(types)
}

/// Skips a value of the metadata.
fn value(file: &mut BufReader<File>, kind: u32) -> Result<()> {
    match kind {
        0 | 1 | 7 => skip(file, 1),
        2 | 3 => skip(file, 2),
        4..=6 => skip(file, 4),
        8 => text(file),
        9 => {
            let (kind, count) = (u32_of(file)?, u64_of(file)?);
            if count > LONGEST || kind == 9 {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            (0..count).try_for_each(|_| value(file, kind))
        }
        10..=12 => skip(file, 8),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

/// Skips a text.
fn text(file: &mut BufReader<File>) -> Result<()> {
    let length = u64_of(file)?;
    skip(file, length)
}

fn skip(file: &mut BufReader<File>, bytes: u64) -> Result<()> {
    if bytes > LONGEST {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    // Within the buffer this does not read it again.
    file.seek_relative(bytes as i64)
}

fn u32_of(file: &mut impl Read) -> Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes).map(|()| u32::from_le_bytes(bytes))
}

fn u64_of(file: &mut impl Read) -> Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes).map(|()| u64::from_le_bytes(bytes))
}
