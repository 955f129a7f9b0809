//! A frozen weight in blocks of few bits.

use super::FourBit;
use candle_core::Tensor;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

/// A frozen weight (O, I) in blocks of few bits, each with a scale. Cloning shares it.
#[derive(Clone, Debug)]
pub struct PackedWeight(Arc<Packed>);

#[derive(Debug)]
struct Packed {
    rows: usize,
    columns: usize,
    storage: Storage,
    on_device: OnceLock<DeviceBlocks>,
}

#[derive(Debug)]
enum Storage {
    FourBit(FourBit),
    Other(Box<dyn Blocks>),
}

/// Blocks of another library's kind, such as those of a GGUF file.
pub trait Blocks: Debug + Send + Sync {
    /// Writes the elements from `first` on, row-major, in float32. They lie within the weight.
    fn read(&self, first: usize, out: &mut [f32]);

    /// Size in memory, in bytes.
    fn bytes(&self) -> usize;
}

/// A copy of the blocks in a device's memory.
#[derive(Debug)]
pub(crate) struct DeviceBlocks {
    /// Bytes in words.
    pub(crate) codes: Tensor,
    pub(crate) scales: Tensor,
    /// Codes of the scales, in words, and the number of each.
    pub(crate) nested: Option<(Tensor, Tensor)>,
}

impl PackedWeight {
    pub(super) fn new(rows: usize, columns: usize, blocks: FourBit) -> Self {
        Self::with(rows, columns, Storage::FourBit(blocks))
    }

    /// A weight (`rows`, `columns`) in blocks of another kind.
    pub fn of_blocks(rows: usize, columns: usize, blocks: Box<dyn Blocks>) -> Self {
        Self::with(rows, columns, Storage::Other(blocks))
    }

    fn with(rows: usize, columns: usize, storage: Storage) -> Self {
        Self(Arc::new(Packed { rows, columns, storage, on_device: OnceLock::new() }))
    }

    /// Rows and columns, (O, I).
    pub fn shape(&self) -> (usize, usize) {
        (self.0.rows, self.0.columns)
    }

    /// The blocks, if they are those of bitsandbytes.
    pub fn four_bit(&self) -> Option<&FourBit> {
        match &self.0.storage {
            Storage::FourBit(blocks) => Some(blocks),
            Storage::Other(_) => None,
        }
    }

    /// Size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.0.storage {
            Storage::FourBit(blocks) => blocks.bytes(),
            Storage::Other(blocks) => blocks.bytes(),
        }
    }

    /// The copy on a device; `upload` makes it at the first call.
    pub(crate) fn on_device<E>(&self, upload: impl FnOnce() -> Result<DeviceBlocks, E>) -> Result<&DeviceBlocks, E> {
        if let Some(copy) = self.0.on_device.get() {
            return Ok(copy);
        }
        let copy = upload()?;
        Ok(self.0.on_device.get_or_init(|| copy))
    }

    /// Writes the elements from `first` on, row-major, in float32.
    ///
    /// # Panics
    ///
    /// If they reach past the last.
    pub fn read(&self, first: usize, out: &mut [f32]) {
        assert!(first + out.len() <= self.0.rows * self.0.columns, "elements past the last");
        match &self.0.storage {
            Storage::FourBit(blocks) => blocks.read(first, out),
            Storage::Other(blocks) => blocks.read(first, out),
        }
    }

    /// All elements in float32, row-major.
    pub fn dequantise(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.0.rows * self.0.columns];
        self.read(0, &mut values);
        values
    }
}
