//! Blocks of a GGUF file as a frozen weight: dequantised where a product reads them.

use smpo_gguf::dequantise_into;
use smpo_kernels::PackedWeight;

use super::{Blocks, GgmlType};

/// Values of the largest block.
const LARGEST: usize = 256;

/// Blocks that lie one after the other, rows without a gap.
#[derive(Debug)]
struct StoredBlocks {
    kind: GgmlType,
    bytes: Vec<u8>,
}

impl Blocks {
    /// The weight in packed form, which a product reads piece by piece; `None` if it is no matrix.
    pub fn pack(self) -> Option<PackedWeight> {
        let &[rows, columns] = &self.shape[..] else { return None };
        Some(PackedWeight::of_blocks(rows, columns, Box::new(StoredBlocks { kind: self.kind, bytes: self.bytes })))
    }
}

impl StoredBlocks {
    /// Writes the values of whole blocks, from block `first` on.
    fn whole(&self, first: usize, out: &mut [f32]) {
        let bytes = &self.bytes[first * self.kind.block_bytes()..];
        // Blocks of a type that is not dequantised are refused when the file is opened.
        let _ = dequantise_into(self.kind, bytes, out);
    }

    /// Writes values of one block, from its value `skipped` on.
    fn part(&self, block: usize, skipped: usize, out: &mut [f32]) {
        let mut values = [0.0; LARGEST];
        self.whole(block, &mut values[..self.kind.block_values()]);
        out.copy_from_slice(&values[skipped..skipped + out.len()]);
    }
}

impl smpo_kernels::Blocks for StoredBlocks {
    fn read(&self, first: usize, out: &mut [f32]) {
        let width = self.kind.block_values();
        let (mut block, skipped) = (first / width, first % width);
        let mut rest = out;
        if skipped > 0 {
            let (head, after) = rest.split_at_mut((width - skipped).min(rest.len()));
            self.part(block, skipped, head);
            (block, rest) = (block + 1, after);
        }
        let count = rest.len() / width;
        let (middle, tail) = rest.split_at_mut(count * width);
        self.whole(block, middle);
        if !tail.is_empty() {
            self.part(block + count, 0, tail);
        }
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}
