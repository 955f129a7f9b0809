//! Metadata of a file: values by key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{GgufError, Result};

/// A value of the metadata. Lists stay in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(List),
}

/// A list in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct List {
    pub kind: Kind,
    pub count: usize,
    /// Offset of the first element in the file, and bytes of all.
    pub begin: u64,
    pub bytes: usize,
}

/// Type of a value in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    List,
    U64,
    I64,
    F64,
}

impl Kind {
    pub fn of_number(number: u32) -> Option<Self> {
        use Kind::*;
        const ALL: [Kind; 13] = [U8, I8, U16, I16, U32, I32, F32, Bool, Text, List, U64, I64, F64];
        ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Bytes of a value; `None` for texts and lists.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::List => None,
        }
    }

    /// A value of this kind from its bytes, of which there are as many as it has.
    pub fn decode(self, bytes: &[u8]) -> Option<Value> {
        let bits = bytes.iter().rev().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        Some(match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Value::Unsigned(bits),
            Self::I8 => Value::Signed(i64::from(bits as i8)),
            Self::I16 => Value::Signed(i64::from(bits as i16)),
            Self::I32 => Value::Signed(i64::from(bits as i32)),
            Self::I64 => Value::Signed(bits as i64),
            Self::F32 => Value::Float(f64::from(f32::from_bits(bits as u32))),
            Self::F64 => Value::Float(f64::from_bits(bits)),
            Self::Bool => Value::Bool(bits != 0),
            Self::Text | Self::List => return None,
        })
    }
}

impl Value {
    /// The value for messages.
    fn shown(&self) -> String {
        match self {
            Self::Unsigned(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::List(list) => format!("a list of {} elements", list.count),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Unsigned(value) => Some(*value as f64),
            Self::Signed(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    fn whole(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }
}

/// Metadata of a file: values by key, read with the type that is wanted of them.
#[derive(Debug)]
pub struct Metadata {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

impl Metadata {
    pub(crate) fn new(path: &Path, values: BTreeMap<String, Value>) -> Self {
        Self { path: path.to_path_buf(), values }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// True if the key is there.
    pub fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A text; `None` where it is absent.
    ///
    /// # Errors
    /// When it is another value.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(key, "a text", other.shown())),
        }
    }

    /// True or false; `None` where it is absent.
    ///
    /// # Errors
    /// When it is another value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.error(key, "true or false", other.shown())),
        }
    }

    /// A whole number from 0 on; `None` where it is absent.
    ///
    /// # Errors
    /// When it is another value.
    pub fn whole(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        value.whole().map(Some).ok_or_else(|| self.error(key, "a whole number from 0 on", value.shown()))
    }

    /// A finite number; `None` where it is absent.
    ///
    /// # Errors
    /// When it is another value.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let finite = value.number().filter(|number| number.is_finite());
        finite.map(Some).ok_or_else(|| self.error(key, "a finite number", value.shown()))
    }

    /// A list of texts; `None` where it is absent.
    ///
    /// # Errors
    /// When it is another value, or a text is not UTF-8.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        let Some(list) = self.list(key)? else { return Ok(None) };
        if list.kind != Kind::Text {
            return Err(self.error(key, "a list of texts", format!("a list of {:?}", list.kind)));
        }
        let bytes = self.bytes_of(list)?;
        let mut texts = Vec::with_capacity(list.count);
        let mut rest = bytes.as_slice();
        for index in 0..list.count {
            let changed = || self.error(key, "the list that was there when the file was opened", "another one");
            let (length, after) = rest.split_first_chunk::<8>().ok_or_else(changed)?;
            let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| changed())?;
            let (text, after) = after.split_at_checked(length).ok_or_else(changed)?;
            let text = std::str::from_utf8(text)
                .map_err(|_| self.error(&format!("{key}[{index}]"), "UTF-8", String::from_utf8_lossy(text)))?;
            texts.push(text.to_string());
            rest = after;
        }
        Ok(Some(texts))
    }

    /// A list of numbers, or of true and false as 1 and 0; `None` where it is absent.
    ///
    /// # Errors
    /// When it is another value.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(list) = self.list(key)? else { return Ok(None) };
        let not_numbers = || self.error(key, "a list of numbers", format!("a list of {:?}", list.kind));
        let size = list.kind.size().ok_or_else(not_numbers)?;
        let bytes = self.bytes_of(list)?;
        let value = |bytes| match list.kind.decode(bytes)? {
            Value::Bool(value) => Some(f64::from(u8::from(value))),
            other => other.number(),
        };
        bytes.chunks_exact(size).map(value).collect::<Option<_>>().map(Some).ok_or_else(not_numbers)
    }

    /// A list of bytes; `None` where it is absent.
    ///
    /// # Errors
    /// When it is another value.
    pub fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self.list(key)? {
            None => Ok(None),
            Some(list) if list.kind.size() == Some(1) => self.bytes_of(list).map(Some),
            Some(list) => Err(self.error(key, "a list of bytes", format!("a list of {:?}", list.kind))),
        }
    }

    /// True for a key with a list.
    pub fn is_list(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some(Value::List(_)))
    }

    fn list(&self, key: &str) -> Result<Option<&List>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(other) => Err(self.error(key, "a list", other.shown())),
        }
    }

    /// The bytes of a list, which the file had when it was opened.
    fn bytes_of(&self, list: &List) -> Result<Vec<u8>> {
        let read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(list.begin))?;
            let mut bytes = Vec::new();
            file.take(list.bytes as u64).read_to_end(&mut bytes)?;
            if bytes.len() == list.bytes { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
        };
        read().map_err(GgufError::io(&self.path, "read"))
    }

    /// An error about a key.
    pub fn error(&self, key: &str, expected: impl Into<String>, got: impl std::fmt::Display) -> GgufError {
        GgufError::field(&self.path, key, expected, got)
    }

    /// The error of an absent key.
    pub fn missing(&self, key: &str, expected: impl Into<String>) -> GgufError {
        self.error(key, expected, "nothing")
    }
}
