//! Reading of headers: each length is held against the bytes that follow.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{GgufError, Result};
use crate::metadata::{Kind, List, Value};

/// Depth of lists in lists.
const DEEPEST: usize = 4;

/// A header being read, with its place in the file.
pub(crate) struct Header<'a> {
    path: &'a Path,
    file: BufReader<File>,
    at: u64,
    length: u64,
}

impl<'a> Header<'a> {
    pub fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path).map_err(GgufError::io(path, "open"))?;
        let length = file.metadata().map_err(GgufError::io(path, "read"))?.len();
        Ok(Self { path, file: BufReader::new(file), at: 0, length })
    }

    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Offset of the next byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    pub fn error(&self, field: &str, expected: impl Into<String>, got: impl std::fmt::Display) -> GgufError {
        GgufError::field(self.path, field, expected, got)
    }

    /// Refuses `count` elements of at least `smallest` bytes where fewer bytes follow.
    pub fn expect_room(&self, field: &str, count: u64, smallest: u64) -> Result<()> {
        let left = self.length - self.at;
        match count.checked_mul(smallest) {
            Some(bytes) if bytes <= left => Ok(()),
            _ => Err(self.error(
                field,
                format!("at most the {left} bytes that follow at byte {}", self.at),
                format!("{count} elements of at least {smallest} bytes; is the file truncated?"),
            )),
        }
    }

    pub fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        self.expect_room(field, N as u64, 1)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(GgufError::io(self.path, "read"))?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub fn u32(&mut self, field: &str) -> Result<u32> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, field: &str) -> Result<u64> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A text with its length before it, of at most `longest` bytes.
    pub fn text(&mut self, field: &str, longest: u64) -> Result<String> {
        let length = self.u64(field)?;
        self.expect_room(field, length, 1)?;
        if length > longest {
            return Err(self.error(field, format!("a text of at most {longest} bytes"), format!("{length} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(GgufError::io(self.path, "read"))?;
        self.at += length;
        String::from_utf8(bytes).map_err(|error| self.error(field, "UTF-8", String::from_utf8_lossy(error.as_bytes())))
    }

    /// The kind of a value.
    pub fn kind(&mut self, key: &str) -> Result<Kind> {
        let number = self.u32(key)?;
        Kind::of_number(number).ok_or_else(|| self.error(key, "a type of value from 0 to 12", number))
    }

    /// A value of the metadata.
    pub fn value(&mut self, key: &str) -> Result<Value> {
        match self.kind(key)? {
            Kind::Text => self.text(key, u64::MAX).map(Value::Text),
            Kind::List => {
                let (kind, count) = (self.kind(key)?, self.u64(key)?);
                let begin = self.at;
                self.skip_list(key, kind, count, DEEPEST)?;
                Ok(Value::List(List { kind, count: count as usize, begin, bytes: (self.at - begin) as usize }))
            }
            kind => {
                let mut bytes = [0; 8];
                for byte in &mut bytes[..kind.size().unwrap_or(0)] {
                    [*byte] = self.array(key)?;
                }
                let value = kind.decode(&bytes[..kind.size().unwrap_or(0)]);
                value.ok_or_else(|| self.error(key, "a value", "none"))
            }
        }
    }

    fn skip_list(&mut self, key: &str, kind: Kind, count: u64, deepest: usize) -> Result<()> {
        match kind {
            Kind::Text => {
                self.expect_room(key, count, 8)?;
                for _ in 0..count {
                    let length = self.u64(key)?;
                    self.skip(key, length)?;
                }
                Ok(())
            }
            Kind::List if deepest == 0 => Err(self.error(key, "lists in lists four deep at most", "deeper ones")),
            Kind::List => {
                self.expect_room(key, count, 12)?;
                for _ in 0..count {
                    let (kind, count) = (self.kind(key)?, self.u64(key)?);
                    self.skip_list(key, kind, count, deepest - 1)?;
                }
                Ok(())
            }
            _ => {
                let size = kind.size().unwrap_or(1) as u64;
                self.expect_room(key, count, size)?;
                self.skip(key, count * size)
            }
        }
    }

    fn skip(&mut self, field: &str, bytes: u64) -> Result<()> {
        self.expect_room(field, bytes, 1)?;
        let step = i64::try_from(bytes).map_err(|_| self.error(field, "a length of this file", bytes))?;
        // Within the buffer this reads nothing again.
        self.file.seek_relative(step).map_err(GgufError::io(self.path, "read"))?;
        self.at += bytes;
        Ok(())
    }

    /// The file, to read tensors from.
    pub fn into_file(self) -> Result<File> {
        let mut file = self.file.into_inner();
        file.seek(SeekFrom::Start(0)).map_err(GgufError::io(self.path, "read"))?;
        Ok(file)
    }
}
