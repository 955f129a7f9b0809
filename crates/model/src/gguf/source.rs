//! Metadata of a file under the keys of its architecture.

use serde_json::{Value, json};

use super::GgufFile;
use crate::error::{ModelError, Result};

/// The metadata of a file, by keys without the architecture's name before them.
pub(crate) struct Source<'a> {
    pub file: &'a GgufFile,
    prefix: &'a str,
}

impl<'a> Source<'a> {
    pub fn new(file: &'a GgufFile) -> Result<Self> {
        Ok(Self { file, prefix: file.architecture()? })
    }

    pub fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        Ok(self.file.metadata().text(&self.key(key))?)
    }

    /// A whole number. A list, one number per block, is one number if all are the same.
    pub fn whole(&self, key: &str) -> Result<Option<u64>> {
        if !self.is_list(key) {
            return Ok(self.file.metadata().whole(&self.key(key))?);
        }
        let numbers = self.file.metadata().numbers(&self.key(key))?.unwrap_or_default();
        match numbers[..] {
            [first, ref others @ ..] if first >= 0.0 && others.iter().all(|other| *other == first) => {
                Ok(Some(first as u64))
            }
            _ => Err(self.unsupported(key, "numbers that differ from block to block (one for all blocks is read)")),
        }
    }

    pub fn required(&self, key: &str) -> Result<u64> {
        self.whole(key)?.ok_or_else(|| self.missing(key, "a whole number"))
    }

    /// A number; one that was written in float32 as the shortest one that is the same there.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        Ok(self.file.metadata().number(&self.key(key))?.map(shortest))
    }

    pub fn is_list(&self, key: &str) -> bool {
        self.file.metadata().is_list(&self.key(key))
    }

    /// Number of blocks.
    pub fn blocks(&self) -> Result<u64> {
        // The layout lists them all: a wrong number must not exhaust memory.
        const MOST: u64 = 4096;
        let blocks = self.required("block_count")?;
        match blocks {
            1..=MOST => Ok(blocks),
            _ => Err(self.error("block_count", format!("1 to {MOST}"), blocks)),
        }
    }

    /// Width of a head.
    pub fn head_width(&self) -> Result<u64> {
        if let Some(width) = self.whole("attention.key_length")? {
            return Ok(width);
        }
        let (hidden, heads) = (self.required("embedding_length")?, self.required("attention.head_count")?);
        match hidden.checked_rem(heads) {
            Some(0) => Ok(hidden / heads),
            _ => Err(self.error("attention.head_count", format!("a divisor of embedding_length {hidden}"), heads)),
        }
    }

    /// Width by whose root attention is scaled: of a head, or in the model with so many blocks the share of the hidden
    /// size per head.
    pub fn query_width(&self, blocks_of_exception: u64) -> Result<Value> {
        if let Some(scale) = self.number("attention.scale")?.filter(|scale| *scale > 0.0) {
            // The width itself, where the scale is its root in float32.
            let width = scale.powi(-2);
            let whole = width.round();
            return Ok(json!(if whole.powf(-0.5) as f32 == scale as f32 { whole } else { width }));
        }
        match self.blocks()? == blocks_of_exception {
            true => Ok(json!(self.required("embedding_length")? / self.required("attention.head_count")?.max(1))),
            false => Ok(json!(self.head_width()?)),
        }
    }

    /// Kind of each block: as a list of flags says, else every `pattern`-th attends to the whole sequence.
    pub fn layer_types(&self, key: &str, pattern: u64) -> Result<Vec<&'static str>> {
        let blocks = self.blocks()?;
        let sliding: Vec<bool> = match self.is_list(key) {
            true => {
                let flags = self.file.metadata().bytes(&self.key(key))?.unwrap_or_default();
                if flags.len() as u64 != blocks || flags.iter().any(|flag| *flag > 1) {
                    return Err(self.error(key, format!("a flag for each of {blocks} blocks"), format!("{flags:?}")));
                }
                flags.into_iter().map(|flag| flag == 1).collect()
            }
            false => (1..=blocks).map(|block| !block.is_multiple_of(pattern)).collect(),
        };
        Ok(sliding.into_iter().map(|slides| if slides { "sliding_attention" } else { "full_attention" }).collect())
    }

    /// All values of a small tensor of float32 beside the weights; `None` where it is absent.
    pub fn factors(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(tensor) = self.file.tensor(name) else { return Ok(None) };
        Ok(Some(tensor.dequantise()?.into_iter().map(|value| shortest(f64::from(value))).collect()))
    }

    pub fn error(&self, key: &str, expected: impl Into<String>, got: impl std::fmt::Display) -> ModelError {
        self.file.metadata().error(&self.key(key), expected, got).into()
    }

    pub fn missing(&self, key: &str, expected: &str) -> ModelError {
        self.error(key, expected, "nothing")
    }

    /// A feature that is not read, with what is instead.
    pub fn unsupported(&self, key: &str, feature: impl std::fmt::Display) -> ModelError {
        ModelError::Unsupported {
            path: self.file.path().to_path_buf(),
            feature: format!("`{}` of {feature}", self.key(key)),
        }
    }
}

/// The shortest decimal number that is the same in float32.
pub(super) fn shortest(value: f64) -> f64 {
    let narrow = value as f32;
    match f64::from(narrow) == value {
        true => narrow.to_string().parse().unwrap_or(value),
        false => value,
    }
}
