//! Files in zip archives.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::Crc;
use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use crate::FileError;
use crate::text::{MAX_RATIO, UNBOUNDED, invalid};

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedFile {
    /// Its path in the archive.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The files of a zip archive whose names are wanted, in the archive's order; `None` for a file that is no archive, and for
/// a pipe.
///
/// # Errors
/// When it cannot be read, is damaged or encrypted, or unpacks to more than any text does.
pub fn read_archive(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<Vec<ArchivedFile>>, FileError> {
    let mut file = File::open(path).map_err(FileError::at(path, "open"))?;
    let read = |file: &mut File| -> io::Result<Option<Vec<ArchivedFile>>> {
        let metadata = file.metadata()?;
        let mut start = [0; 4];
        if !metadata.is_file() || metadata.len() < 4 {
            return Ok(None);
        }
        file.read_exact(&mut start)?;
        if start == *b"PK\x03\x04" { files(file, metadata.len(), wanted).map(Some) } else { Ok(None) }
    };
    read(&mut file).map_err(FileError::at(path, "read"))
}

fn files(file: &mut File, packed: u64, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<ArchivedFile>> {
    let damaged =
        |error: String| invalid(format!("the zip archive is damaged or ends early ({error}); fetch the file again"));
    let mut archive = ZipArchive::new(file).map_err(|error| damaged(error.to_string()))?;
    let mut left = UNBOUNDED.max(packed.saturating_mul(MAX_RATIO));
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| damaged(error.to_string()))?;
        let (name, method, crc) = (entry.name().to_owned(), entry.compression(), entry.crc32());
        if !wanted(&name) {
            continue;
        }
        if entry.encrypted() {
            return Err(invalid(format!("`{name}` in the zip archive is encrypted; unpack it first")));
        }
        let mut input: Box<dyn Read + '_> = match method {
            CompressionMethod::STORE => Box::new(entry),
            CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(entry)),
            CompressionMethod::ZSTD => Box::new(zstd::stream::read::Decoder::new(entry)?),
            other => return Err(invalid(format!("`{name}` in the zip archive is packed as {other}; unpack it first"))),
        };
        let mut bytes = Vec::new();
        input
            .by_ref()
            .take(left.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| damaged(error.to_string()))?;
        left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            invalid(format!(
                "the zip archive unpacks to more than {MAX_RATIO} times its size, as no text does; unpack it first"
            ))
        })?;
        let mut found = Crc::new();
        found.update(&bytes);
        if found.sum() != crc {
            return Err(damaged(format!("the checksum of `{name}` is another")));
        }
        files.push(ArchivedFile { name, bytes });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use smpo_fixtures::{Packing, zip};

    use super::*;

    fn archive(bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Option<Vec<ArchivedFile>>, FileError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.eval");
        std::fs::write(&path, bytes).unwrap();
        read_archive(&path, wanted)
    }

    #[test]
    fn files_are_unpacked_however_they_are_packed() {
        let text = "so it goes ".repeat(500);
        for packing in [Packing::Stored, Packing::Deflate, Packing::Zstd] {
            let bytes = zip(&[("header.json", "{}"), ("samples/one.json", &text), ("summaries.json", "[]")], packing);
            let files = archive(&bytes, |name| name != "summaries.json").unwrap().expect("an archive");
            let named: Vec<(&str, &[u8])> = files.iter().map(|file| (file.name.as_str(), &file.bytes[..])).collect();
            assert_eq!(named, [("header.json", &b"{}"[..]), ("samples/one.json", text.as_bytes())]);
        }
    }

    #[test]
    fn other_files_are_none_and_damaged_archives_are_refused() {
        assert_eq!(archive(b"{}", |_| true).unwrap(), None);
        assert_eq!(archive(b"", |_| true).unwrap(), None);
        let whole = zip(&[("a.json", &"abc".repeat(200))], Packing::Deflate);
        for cut in [4, 40, whole.len() - 10] {
            let error = archive(&whole[..cut], |_| true).unwrap_err().to_string();
            assert!(error.contains("damaged or ends early"), "{error}");
        }
        let mut flipped = zip(&[("a.json", "abcdef")], Packing::Stored);
        let at = flipped.windows(6).position(|window| window == b"abcdef").unwrap();
        flipped[at] ^= 1;
        assert!(archive(&flipped, |_| true).unwrap_err().to_string().contains("checksum of `a.json`"));
    }

    /// Nothing that an archive says makes the reader panic or take memory without bound.
    #[test]
    fn any_change_of_a_byte_is_read_or_refused() {
        let whole = zip(&[("a.json", "some text"), ("b.json", "more")], Packing::Deflate);
        for at in 0..whole.len() {
            for byte in [0, 0xff, whole[at] ^ 0x10] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = archive(&changed, |_| true);
            }
        }
    }
}
