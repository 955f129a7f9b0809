//! MXFP4 (OCP Microscaling Formats, version 1.0): 32 values in a row share a power of two, and each is one of the sixteen
//! numbers of sign, two bits of exponent and one of fraction.

use smpo_kernels::{Blocks, PackedWeight};

/// Values of a block.
pub(crate) const BLOCK: usize = 32;

/// Bytes of the codes of a block: two values a byte, the first in its lower half.
pub(crate) const CODES: usize = BLOCK / 2;

/// Bits of a value on average, its share of the scale included.
pub(crate) const BITS: f64 = 4.0 + 8.0 / BLOCK as f64;

/// Exponent of a scale of 0.
const BIAS: i32 = 127;

/// The number of each code.
const NUMBERS: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// A weight's blocks, row by row.
#[derive(Debug)]
pub(crate) struct Mxfp4 {
    /// [`CODES`] a block.
    codes: Vec<u8>,
    /// One a block.
    scales: Vec<u8>,
}

impl Mxfp4 {
    /// Takes the bytes of whole blocks.
    pub fn new(codes: Vec<u8>, scales: Vec<u8>) -> Self {
        Self { codes, scales }
    }

    /// The same as a frozen weight (`rows`, `columns`), rows of whole blocks.
    pub fn pack(self, rows: usize, columns: usize) -> PackedWeight {
        PackedWeight::of_blocks(rows, columns, Box::new(self))
    }
}

impl Blocks for Mxfp4 {
    fn read(&self, first: usize, out: &mut [f32]) {
        let mut at = first;
        let mut rest = out;
        while !rest.is_empty() {
            let (block, begin) = (at / BLOCK, at % BLOCK);
            let (values, after) = rest.split_at_mut((BLOCK - begin).min(rest.len()));
            let scale = power_of_two(self.scales[block]);
            let codes = &self.codes[block * CODES..(block + 1) * CODES];
            for (index, value) in (begin..).zip(values.iter_mut()) {
                let code = codes[index / 2] >> (4 * (index % 2)) & 15;
                *value = NUMBERS[usize::from(code)] * scale;
            }
            at += values.len();
            rest = after;
        }
    }

    fn bytes(&self) -> usize {
        self.codes.len() + self.scales.len()
    }
}

/// 2^(scale − 127); infinite for the largest, which the format keeps for what is no number.
fn power_of_two(scale: u8) -> f32 {
    2f32.powi(i32::from(scale) - BIAS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbers_times_a_power_of_two() {
        // Codes 0 to 15 and again, the lower half of a byte first.
        let codes: Vec<u8> = (0..16).map(|byte| (2 * byte % 16) | ((2 * byte + 1) % 16) << 4).collect();
        let weight = Mxfp4::new([codes.clone(), codes].concat(), vec![127, 120]).pack(2, BLOCK);
        let values = weight.dequantise();
        assert_eq!(values[..16], NUMBERS);
        assert_eq!(values[32..40], NUMBERS[..8].iter().map(|number| number / 128.0).collect::<Vec<_>>()[..]);
        let mut part = [0.0; 37];
        weight.read(19, &mut part);
        assert_eq!(part[..], values[19..56]);
        assert_eq!(weight.bytes(), 2 * (CODES + 1));
    }

    #[test]
    fn scales_reach_from_the_smallest_numbers_to_infinity() {
        assert_eq!(power_of_two(0), f32::MIN_POSITIVE / 2.0);
        assert_eq!(power_of_two(254), 2f32.powi(127));
        assert_eq!(power_of_two(255), f32::INFINITY);
    }
}
